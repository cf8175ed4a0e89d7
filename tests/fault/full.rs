//! A server that has no room for its own log while a worker is at work: Redis lives on and refuses every write, PostgreSQL
//! dies. Nothing that was acknowledged is lost, and work goes on by itself when there is room again.

use std::net::TcpStream;
use std::time::Duration;

use omniq_conformance::history::Entry;
use omniq_model::State;
use omniq_services::{Kind, Server};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::disk::Disk;
use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process, is_clear, until};
use crate::support::sql::Client;
use crate::support::story::{Batch, acknowledged};

/// How long there is no room: longer than leases are.
const AWAY: Duration = Duration::from_secs(3);

#[test]
fn the_log_of_redis_has_no_room() {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, 32) else { return };
    // A server that syncs always ends in such a case; `outage` has that.
    let server = on_disk(Kind::Redis, &disk, &[("appendfsync", "everysec")]);
    let place = Place::on_server(Backend::Redis, &server).asking("durability=os");
    let queue = Queue::begin(&place);
    disk.fill_up_to(0);
    let refused = queue.refused(&["is full", "MISCONF"]);
    queue.goes_on(&disk, &server, refused);
}

#[test]
fn the_log_of_postgres_has_no_room() {
    let outer = Place::new();
    let Some(disk) = Disk::mount(&outer, 160) else { return };
    let server = on_disk(Kind::Postgres, &disk, &[]);
    let place = Place::on_server(Backend::Postgres, &server);
    let queue = Queue::begin(&place);
    disk.fill_up_to(0);
    let mut other = Client::of(&server);
    let write = "select pg_logical_emit_message(false, 'fault', repeat('x', 1000000)) from generate_series(1, 100)";
    assert!(other.run(write).is_err(), "the log had room for 100 MB");
    let refused = queue.refused(&[]);
    queue.goes_on(&disk, &server, refused);
    assert!(server.log().contains("PANIC"), "the server did not die\n{}", server.log());
}

fn on_disk(kind: Kind, disk: &Disk, options: &[(&str, &str)]) -> Server {
    let folder = disk.path().to_str().expect("it is text");
    Server::start(kind, &[&[("folder", folder)], options].concat())
}

/// A queue with a worker, which runs what ends only when there is no room any more.
struct Queue<'a> {
    place: &'a Place,
    worker: Process,
    known: Vec<Batch>,
}

impl<'a> Queue<'a> {
    fn begin(place: &'a Place) -> Self {
        place.says(&format!("push {STEPS}"));
        let known = vec![
            Batch::new("slow", "rest", ["[3000]"; 4]),
            Batch::twice("quick", 1, 300),
            Batch::new("late", "draw", ["[]"; 4]).option("--delay=4s"),
        ];
        known.iter().for_each(|batch| batch.enqueue(place));
        let worker = place.start("worker", ["worker"]);
        let judge = Judge::new(place);
        for id in known[0].ids() {
            judge.until(id, PATIENCE, |info| info.head.state == State::Running);
        }
        for id in known[1].ids() {
            judge.until(id, PATIENCE, |info| info.head.state == State::Succeeded);
        }
        Self { place, worker, known }
    }

    /// Producers are told so, with all of `parts`; gives what the refused one offered.
    fn refused(&self, parts: &[&str]) -> Vec<Entry> {
        let mut offers = Vec::new();
        for number in 0..40 {
            let batch = Batch::twice(&format!("more-{number}"), number * 10_000, 2000);
            let mut process = batch.start(self.place);
            let accepted = process.wait(PATIENCE).success();
            // A part of one that failed may have been accepted: what was told is there, the rest is not known.
            let told = acknowledged(&process.stdout());
            let entry = |id| if told.contains(&id) { Entry::acked(id) } else { Entry::unknown(id) };
            offers.extend(batch.ids().into_iter().map(entry));
            if !accepted {
                is_clear(&process, "enqueue", parts);
                println!("{:?}, no room: {}", self.place.backend, process.stderr());
                return offers;
            }
        }
        panic!("the disk was never full");
    }

    /// There is room again.
    fn goes_on(mut self, disk: &Disk, server: &Server, mut offers: Vec<Entry>) {
        std::thread::sleep(AWAY);
        assert_eq!(self.worker.ended(), None, "a worker outlives it\n{}", self.worker.said());
        disk.make_room();
        if TcpStream::connect(server.address()).is_err() {
            println!("{}: it had ended, and is started again", server.kind());
            server.restart();
        }
        let next = Batch::twice("next", 1_000_000, 20);
        until("tasks to be accepted again", PATIENCE, || {
            let mut process = next.start(self.place);
            process.wait(PATIENCE).success()
        });
        let judge = Judge::new(self.place);
        judge.drained(PATIENCE * 2);
        judge.reconciled(PATIENCE);
        self.worker.signal(Signal::TERM);
        assert!(self.worker.wait(PATIENCE).success(), "{}", self.worker.said());
        offers.extend(self.known.iter().chain([&next]).flat_map(Batch::ids).map(Entry::acked));
        judge.verdict(&offers).assert_clean();
    }
}
