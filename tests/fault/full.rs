//! A server that has no room for its own log while a worker is at work: Redis lives on and refuses every write, PostgreSQL
//! dies; and a bucket that takes no objects. Nothing that was acknowledged is lost, and work goes on by itself when there is
//! room again.

use std::net::TcpStream;
use std::time::Duration;

use omniq_conformance::history::Entry;
use omniq_model::State;
use omniq_services::{Kind, Quota, Room, Server};
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
    queue.goes_on(&server, refused, || disk.make_room());
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
    queue.goes_on(&server, refused, || disk.make_room());
    assert!(server.log().contains("PANIC"), "the server did not die\n{}", server.log());
}

/// What ends meanwhile is kept, and committed with the token it had.
#[test]
fn a_bucket_has_no_room() {
    let server = omniq_services::s3();
    let quota = Quota::before(server.address());
    let place = Place::on(Backend::S3).behind(server, quota.addr()).with("OMNIQ_LEASE_TIME", "60s");
    let queue = Queue::begin(&place);
    let slow = queue.known[0].ids();
    quota.set(Room::None);
    let parts = ["s3://omniq/", "is full", "507 Insufficient Storage", "free some space"];
    let refused = queue.refused(&parts);
    let quick = queue.known[1].ids()[0];
    assert_eq!(place.says(&format!("result {quick}")).trim(), "2", "what is there can be read");
    until("a running task to have ended", PATIENCE, || {
        queue.worker.stderr().contains("could not commit ends")
    });
    queue.goes_on(server, refused, || quota.set(Room::Plenty));
    println!("{} writes had no room", quota.refused());
    let judge = Judge::new(&place);
    for id in slow {
        assert_eq!(judge.info(id).head.fence, 1, "its end was kept");
    }
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
        // In a bucket each look takes a while.
        let (slow, quick) = if place.backend == Backend::S3 { (12_000, 20) } else { (3000, 300) };
        let known = vec![
            Batch::new("slow", "rest", vec![format!("[{slow}]"); 4]),
            Batch::twice("quick", 1, quick),
            Batch::new("late", "draw", ["[]"; 4]).option("--delay=4s"),
        ];
        known.iter().for_each(|batch| batch.enqueue(place));
        let worker = place.start("worker", ["worker"]);
        if place.backend.has_owner() {
            until("it to have the tasks", PATIENCE, || {
                worker.stderr().contains("has the tasks now")
            });
        }
        let judge = Judge::new(place);
        for id in known[0].ids() {
            judge.until(id, PATIENCE, |info| info.head.state == State::Running);
        }
        until("the quick ones to have ended", PATIENCE, || {
            judge.states().get(&State::Succeeded).is_some_and(|ended| *ended >= quick)
        });
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
    fn goes_on(mut self, server: &Server, mut offers: Vec<Entry>, make_room: impl FnOnce()) {
        std::thread::sleep(AWAY);
        assert_eq!(self.worker.ended(), None, "a worker outlives it\n{}", self.worker.said());
        make_room();
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
