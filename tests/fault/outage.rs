//! A server that is away, stands still, or has no room left while a queue is kept on it: what was acknowledged is there
//! afterwards, and work goes on by itself.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use omniq_conformance::history::Entry;
use omniq_model::State;
use omniq_services::Server;
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::disk::{Disk, MEBIBYTE};
use crate::support::judge::Judge;
use crate::support::place::{LEASE, Place, STEPS};
use crate::support::process::{PATIENCE, is_clear};
use crate::support::sql::Client;
use crate::support::story::{self, Batch, acknowledged};

/// How long a server is away: longer than leases are.
const AWAY: Duration = Duration::from_secs(3);
/// From the return of a server to the end of a new task, and of those that ran when it went: one lease, one look of the keeper,
/// and what a debug build on a busy machine takes.
const RECOVERY: Duration = Duration::from_secs(15);

fn start(backend: Backend, options: &[(&str, &str)]) -> Server {
    Server::start(backend.kind().expect("it has a server"), options)
}

/// A worker is at work while the server goes, by `kill -9` and by SIGSTOP, and comes back.
fn away(backend: Backend) {
    let server = start(backend, &[]);
    let place = Place::on_server(backend, &server);
    place.says(&format!("push {STEPS}"));
    let mut batches = vec![Batch::twice("before", 1, 500)];
    batches[0].enqueue(&place);
    let mut worker = place.start("worker", ["worker"]);
    for how in ["kill", "stop"] {
        let slow = Batch::new(&format!("slow-{how}"), "rest", ["[1000]"; 4]);
        slow.enqueue(&place);
        let judge = Judge::new(&place);
        judge.until(slow.ids()[0], PATIENCE, |info| info.head.state == State::Running);
        if how == "kill" {
            server.kill();
            refused(&place);
            std::thread::sleep(AWAY);
            server.restart();
        } else {
            server.pause();
            std::thread::sleep(AWAY);
            server.resume();
        }
        let back = Instant::now();
        let next = Batch::twice(&format!("after-{how}"), 1000, 20);
        next.enqueue(&place);
        judge.drained(PATIENCE);
        let took = back.elapsed();
        println!("{backend:?}: all had ended {took:?} after the server was back ({how})");
        assert!(took < RECOVERY, "{how}: it took {took:?}\n{}", worker.said());
        assert_eq!(worker.ended(), None, "a worker outlives its server\n{}", worker.said());
        batches.extend([slow, next]);
    }
    let judge = Judge::new(&place);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    story::check(&judge, &batches);
}

/// A worker that is to drain the queue does so although the server goes meanwhile, and comes back.
fn drains(backend: Backend) {
    let server = start(backend, &[]);
    let place = Place::on_server(backend, &server);
    place.says(&format!("push {STEPS}"));
    let slow = Batch::new("slow", "rest", ["[1000]"; 4]);
    slow.enqueue(&place);
    let mut worker = place.start("worker", ["worker", "--drain"]);
    let judge = Judge::new(&place);
    judge.until(slow.ids()[0], PATIENCE, |info| info.head.state == State::Running);
    server.kill();
    std::thread::sleep(AWAY);
    assert_eq!(worker.ended(), None, "nobody can say that all is drained\n{}", worker.said());
    server.restart();
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    // What the log lacks of the outage is mended by who works next.
    let mut next = place.start("next", ["worker"]);
    // Once it has run a task, it listens for signals.
    let more = Batch::new("more", "rest", ["[1]"]);
    more.enqueue(&place);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    next.signal(Signal::TERM);
    assert!(next.wait(PATIENCE).success(), "{}", next.said());
    story::check(&judge, &[slow, more]);
}

/// Who enqueues meanwhile is told so, soon, and nothing is accepted.
#[track_caller]
fn refused(place: &Place) {
    let mut process = place.start("refused", ["enqueue", "steps", "draw"]);
    let asked = Instant::now();
    let status = process.wait(PATIENCE);
    assert!(!status.success(), "it was accepted\n{}", process.said());
    assert!(process.stdout().is_empty(), "{}", process.said());
    is_clear(&process, "enqueue", &[]);
    println!("{:?}: refused after {:?}: {}", place.backend, asked.elapsed(), process.stderr());
}

/// The server's disk is full: tasks are refused with a reason, and those that were accepted come to their end when there is
/// room again.
fn full_disk(backend: Backend, mebibytes: u32) {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, mebibytes) else { return };
    let folder = disk.path().to_str().expect("it is text").to_owned();
    let server = start(backend, &[("folder", &folder)]);
    let place = Place::on_server(backend, &server);
    place.says(&format!("push {STEPS}"));
    let first = Batch::twice("first", 1, 300);
    first.enqueue(&place);
    if backend == Backend::Postgres {
        // Its log has room of its own then, and its tables have none. `full` has the other case, in which it dies.
        let room = Client::of(&server).run("select pg_switch_wal(); checkpoint");
        room.expect("the server runs");
    }

    disk.fill_up_to(MEBIBYTE);
    let (mut known, mut offers) = (vec![first], Vec::new());
    for number in 0.. {
        assert!(number < 40, "the disk was never full");
        let batch = Batch::twice(&format!("more-{number}"), number * 10_000, 5000);
        let mut process = batch.start(&place);
        if process.wait(PATIENCE * 2).success() {
            known.push(batch);
            continue;
        }
        let parts: &[_] =
            if backend == Backend::Postgres { &["is full", "No space left"] } else { &[] };
        is_clear(&process, "enqueue", parts);
        println!("{backend:?}, its disk full: {}", process.stderr());
        // A part of it may have been accepted: what was told is there, the rest is not known.
        let told = acknowledged(&process.stdout());
        let entry = |id| if told.contains(&id) { Entry::acked(id) } else { Entry::unknown(id) };
        offers.extend(batch.ids().into_iter().map(entry));
        break;
    }
    disk.make_room();
    // One of NATS that could not write does not try again.
    if backend == Backend::Nats || TcpStream::connect(server.address()).is_err() {
        println!("{backend:?}: the server had ended, or given up, and is started again");
        server.restart();
    }
    let mut worker = place.start("worker", ["worker"]);
    let judge = Judge::new(&place);
    judge.drained(PATIENCE * 2);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    assert!(worker.wait(PATIENCE).success(), "{}", worker.said());
    offers.extend(known.iter().flat_map(Batch::ids).map(Entry::acked));
    judge.verdict(&offers).assert_clean();
}

/// Ten workers, and so ten keepers that promote and take over, at one store; two producers feed them, and two of the workers
/// are stopped past their leases again and again.
fn crowd(backend: Backend) {
    let place = Place::on(backend)
        .with("OMNIQ_RETRY_DELAY", "50ms")
        .with("OMNIQ_RETRY_MAX_DELAY", "100ms")
        .with("OMNIQ_CRASH_BUDGET", "1000");
    place.says(&format!("push {STEPS}"));
    let mut batches = story::every_kind();
    batches.push(Batch::twice("many", 1000, 2000));
    batches.push(Batch::new("due", "draw", vec!["[]"; 200]).option("--delay=1s"));
    batches.push(Batch::new("slow", "rest", vec!["[300]"; 100]));
    let mut workers: Vec<_> =
        (0..10).map(|number| place.start(&format!("worker {number}"), ["worker"])).collect();
    batches.iter().for_each(|batch| batch.enqueue(&place));
    for round in 0..2 {
        for sleeper in &workers[..2] {
            sleeper.signal(Signal::STOP);
        }
        std::thread::sleep(LEASE + Duration::from_millis(500));
        for sleeper in &workers[..2] {
            sleeper.signal(Signal::CONT);
        }
        let batch = Batch::twice(&format!("round-{round}"), round * 10_000, 500);
        batch.enqueue(&place);
        batches.push(batch);
    }
    let judge = Judge::new(&place);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    for worker in &mut workers {
        worker.signal(Signal::TERM);
    }
    for worker in &mut workers {
        let status = worker.wait(PATIENCE);
        assert!(status.success(), "it ended with {status}\n{}", worker.said());
    }
    story::check(&judge, &batches);
}

macro_rules! on {
    ($($module:ident: $backend:ident, $disk:literal;)+) => {
        $(mod $module {
            use super::*;

            #[test]
            fn a_server_goes_and_comes_back() {
                away(Backend::$backend);
            }

            #[test]
            fn a_worker_drains_although_its_server_goes() {
                drains(Backend::$backend);
            }

            #[test]
            fn the_disk_of_a_server_is_full() {
                full_disk(Backend::$backend, $disk);
            }

            #[test]
            fn ten_workers_share_a_store() {
                crowd(Backend::$backend);
            }
        })+
    };
}

// How large the disk is that is filled, in MiB: more than an empty server takes.
on! {
    redis: Redis, 32;
    postgres: Postgres, 160;
}

/// The log of commands on a server that is killed, stopped and filled.
mod nats {
    use super::*;

    #[test]
    fn a_server_goes_and_comes_back() {
        away(Backend::Nats);
    }

    #[test]
    fn the_disk_of_a_server_is_full() {
        full_disk(Backend::Nats, 48);
    }
}

/// A bucket whose server is killed and stopped.
mod s3 {
    use super::*;

    #[test]
    fn a_server_goes_and_comes_back() {
        away(Backend::S3);
    }
}
