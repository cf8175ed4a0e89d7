//! A worker that stands still past its lease and wakes up again: what it did meanwhile counts for nothing.

use omniq_model::{EventKind, State};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::judge::Judge;
use crate::support::place::{LEASE, Place, STEPS};
use crate::support::process::{PATIENCE, Process, fails, until};
use crate::support::story::{self, Batch};

/// A sleep of the guest, longer than it takes to stop its worker, in milliseconds.
const REST: u64 = 4000;

/// On each backend: the end of a worker that stood still past its lease is stale.
fn stale(backend: Backend) {
    let place = Place::on(backend);
    place.says(&format!("push {STEPS}"));
    let batch = Batch::new("slow", "rest", [format!("[{REST}]")]);
    batch.enqueue(&place);
    let id = batch.ids()[0];
    let mut zombie = place.start("zombie", ["worker"]);
    let judge = beside(&zombie, &place);
    judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    stand_still(&zombie, &judge, backend);
    let mut heir = place.start("heir", ["worker"]);
    judge.drained(PATIENCE);
    let first = judge.info(id);
    assert_eq!((first.head.state, first.head.fence), (State::Succeeded, 2), "{:?}", first.head);
    assert_eq!((first.head.attempt, first.head.crashes), (1, 1), "{:?}", first.head);
    let value = judge.value(&first).expect("it has a result");

    zombie.signal(Signal::CONT);
    // Its guest ends at once, or is stopped since the session is over; either way it says that it was too late.
    until("the zombie to be told", LEASE * 20, || judge.has_event(id, EventKind::Fenced));
    let last = judge.info(id);
    assert_eq!(last.head, first.head, "nothing has changed");
    assert_eq!(judge.value(&last), Some(value), "the result that stands is that of the second run");

    // It is of use again under a session of its own.
    heir.signal(Signal::TERM);
    heir.wait(PATIENCE);
    let next = Batch::twice("next", 1, 5);
    next.enqueue(&place);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    zombie.signal(Signal::TERM);
    let status = zombie.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", zombie.said());
    story::check(&judge, [&batch, &next]);
}

#[test]
fn the_end_of_a_worker_that_stood_still_is_stale() {
    stale(Backend::Sqlite);
}

#[test]
fn the_end_of_a_worker_that_stood_still_is_stale_in_redis() {
    stale(Backend::Redis);
}

#[test]
fn the_end_of_a_worker_that_stood_still_is_stale_in_postgres() {
    stale(Backend::Postgres);
}

#[test]
fn the_end_of_a_worker_that_stood_still_is_stale_in_nats() {
    stale(Backend::Nats);
}

/// It also had the tasks, and finds that another process has them.
#[test]
fn the_end_of_an_owner_that_stood_still_is_stale_in_a_bucket() {
    stale(Backend::S3);
}

#[test]
fn a_stale_end_does_not_end_the_run_that_goes_on() {
    stale_meanwhile(Backend::Sqlite);
}

#[test]
fn a_stale_end_does_not_end_the_run_that_goes_on_in_redis() {
    stale_meanwhile(Backend::Redis);
}

#[test]
fn a_stale_end_does_not_end_the_run_that_goes_on_in_nats() {
    stale_meanwhile(Backend::Nats);
}

#[test]
fn a_stale_end_does_not_end_the_run_that_goes_on_in_postgres() {
    stale_meanwhile(Backend::Postgres);
}

/// It wakes up while the second run is under way, which its end must not end.
fn stale_meanwhile(backend: Backend) {
    let place = Place::on(backend);
    place.says(&format!("push {STEPS}"));
    let batch = Batch::new("slow", "rest", ["[5000]"]);
    batch.enqueue(&place);
    let id = batch.ids()[0];
    let mut zombie = place.start("zombie", ["worker"]);
    let judge = beside(&zombie, &place);
    judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    stand_still(&zombie, &judge, backend);
    let mut heir = place.start("heir", ["worker"]);
    let second = judge.until(id, PATIENCE, |info| info.head.fence == 2);
    zombie.signal(Signal::CONT);
    until("the zombie to be told", LEASE * 20, || judge.has_event(id, EventKind::Fenced));
    assert_eq!(judge.info(id).head, second.head, "the second run goes on");
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    for worker in [&mut zombie, &mut heir] {
        worker.signal(Signal::TERM);
        worker.wait(PATIENCE);
    }
    assert_eq!(judge.info(id).head.fence, 2, "there was no third");
    story::check(&judge, [&batch]);
}

/// Opens the stores once that process is at work. Where one process has the tasks, that one has them.
fn beside(process: &Process, place: &Place) -> Judge {
    if place.backend.has_owner() {
        until("it to have the tasks", PATIENCE, || process.stderr().contains("has the tasks now"));
    }
    Judge::new(place)
}

/// Stops a process while it is not in the midst of a transaction, which others would wait for. What an owner has, others
/// wait for anyhow, until they take it over.
fn stand_still(process: &Process, judge: &Judge, backend: Backend) {
    process.signal(Signal::STOP);
    if backend.has_owner() {
        return;
    }
    while !judge.can_write() {
        process.signal(Signal::CONT);
        assert!(judge.can_write(), "a running process ends its transactions\n{}", process.said());
        process.signal(Signal::STOP);
    }
}

/// Nobody can take a folder over from a process that lives and holds its lock, so whoever asks is told which process that
/// is and what to do: those that come now, and those that it had let in.
#[test]
fn an_owner_of_a_folder_that_stands_still_is_named() {
    let place = Place::on(Backend::File).with("OMNIQ_STORAGE_DEADLINE", "2s");
    place.says(&format!("push {STEPS}"));
    let mut owner = place.start("owner", ["worker"]);
    let judge = beside(&owner, &place);
    let mut heir = place.start("heir", ["worker"]);
    until("the heir to be let in", PATIENCE, || judge.workers().len() == 2);
    let before = Batch::twice("before", 1, 50);
    before.enqueue(&place);
    judge.drained(PATIENCE);

    owner.signal(Signal::STOP);
    let next_step = format!("kill -CONT {}", owner.id());
    let named = format!("process {}, which has it, is stopped", owner.id());
    fails(&place, "enqueue steps draw", &[&named, &next_step, "another one takes over"]);
    until("the heir to be told", PATIENCE, || heir.stderr().contains(&next_step));

    // It does what is said, and all is well.
    owner.signal(Signal::CONT);
    let after = Batch::twice("after", 100, 50);
    after.enqueue(&place);
    judge.drained(PATIENCE);

    // Or it is killed while it stands still, and another one takes over.
    owner.signal(Signal::STOP);
    owner.kill();
    let last = Batch::twice("last", 200, 50);
    last.enqueue(&place);
    judge.drained(PATIENCE);
    heir.signal(Signal::TERM);
    let status = heir.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", heir.said());
    // What the killed one had not written of the log is mended by a worker that starts.
    let mut last_worker = place.start("last worker", ["worker"]);
    judge.reconciled(PATIENCE);
    last_worker.signal(Signal::TERM);
    last_worker.wait(PATIENCE);
    story::check(&judge, [&before, &after, &last]);
}
