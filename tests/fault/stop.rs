//! Being told to stop: a worker puts back what it cannot end, at once if it is told so twice, and a task that would go on for
//! ever is stopped from another process.

use std::time::{Duration, Instant};

use omniq_model::{EventKind, State};
use rustix::process::Signal;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, until};
use crate::support::story::{self, Batch};

fn place() -> Place {
    let place = Place::new().with("OMNIQ_LEASE_TIME", "10s");
    place.says(&format!("push {STEPS}"));
    place
}

/// How many workers the file of the tasks knows of.
fn sessions(place: &Place) -> i64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut file = SqliteConnection::connect(&place.url("omniq.db")).await.expect("it opens");
        let count = sqlx::query_scalar("select count(*) from omniq_session");
        let count = count.fetch_one(&mut file).await.expect("they can be counted");
        file.close().await.expect("it closes");
        count
    })
}

/// Waits until all of these have begun. One that is only claimed may still wait for its module to be loaded, and is put
/// back when the worker is stopped.
fn run(judge: &Judge, batch: &Batch) {
    for id in batch.ids() {
        until("a guest to begin", PATIENCE, || judge.has_event(id, EventKind::Started));
    }
}

#[test]
fn a_stopped_worker_puts_its_tasks_back() {
    let place = place();
    let batch = Batch::new("slow", "rest", ["[5000]"; 3]);
    batch.enqueue(&place);
    let judge = Judge::new(&place);
    let mut worker = place.start("worker", ["worker", "--grace", "100ms"]);
    run(&judge, &batch);
    let asked = Instant::now();
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3), "it took {took:?}, longer than the tasks");
    for id in batch.ids() {
        // Long before the lease is over, and as if nothing had happened but the claim.
        let head = judge.info(id).head;
        assert_eq!((head.state, head.attempt, head.crashes), (State::Ready, 0, 0), "{head:?}");
        assert!(judge.has_event(id, EventKind::Released), "the log says so");
    }
    place.says("worker --drain");
    judge.reconciled(PATIENCE);
    story::check(&judge, [&batch]);
}

#[test]
fn a_stopped_worker_leaves_no_session_behind() {
    // So long that the session does not end by itself.
    let place = place().with("OMNIQ_LEASE_TIME", "10m");
    let mut worker = place.start("worker", ["worker"]);
    until("a session", PATIENCE, || sessions(&place) == 1);
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    assert_eq!(sessions(&place), 0);
}

#[test]
fn a_worker_lets_its_tasks_end_within_the_grace() {
    let place = place();
    let batch = Batch::new("slow", "rest", ["[700]"; 3]);
    batch.enqueue(&place);
    let judge = Judge::new(&place);
    let mut worker = place.start("worker", ["worker", "--grace", "30s"]);
    run(&judge, &batch);
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    judge.reconciled(Duration::from_secs(1));
    story::check(&judge, [&batch]);
    for id in batch.ids() {
        assert_eq!(judge.info(id).head.fence, 1, "it ran once");
    }
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let place = place().with("OMNIQ_LEASE_TIME", "1s");
    let batch = Batch::new("slow", "rest", ["[5000]"; 3]);
    batch.enqueue(&place);
    let judge = Judge::new(&place);
    let mut worker = place.start("worker", ["worker"]);
    run(&judge, &batch);
    worker.signal(Signal::TERM);
    until("the worker to say so", PATIENCE, || worker.stderr().contains("once more"));
    let asked = Instant::now();
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert_eq!(status.code(), Some(128 + 15), "{}", worker.said());
    assert!(asked.elapsed() < Duration::from_secs(1), "at once, not after {:?}", asked.elapsed());
    // Nothing was put back; others take the tasks over when the lease is over.
    let mut heir = place.start("heir", ["worker"]);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    heir.signal(Signal::TERM);
    heir.wait(PATIENCE);
    story::check(&judge, [&batch]);
}

#[test]
fn an_endless_task_is_stopped_from_another_process() {
    let place = place();
    let batch = Batch::new("endless", "spin", ["[]"]);
    batch.enqueue(&place);
    let id = batch.ids()[0];
    let judge = Judge::new(&place);
    for pool in ["async", "thread"] {
        let mut worker = place.start(pool, ["worker", "--pool", pool]);
        judge.until(id, PATIENCE, |info| info.head.state == State::Running);
        run(&judge, &batch);
        place.says(&format!("task cancel {id}"));
        let asked = Instant::now();
        judge.until(id, PATIENCE, |info| info.head.state == State::Cancelled);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "{pool}: it took {took:?}");
        println!(
            "pool {pool}: an endless task was stopped {took:?} after another process had asked"
        );
        // The worker is of use as before.
        let next = Batch::twice(&format!("after-{pool}"), 3, 2);
        next.enqueue(&place);
        for next in next.ids() {
            judge.until(next, PATIENCE, |info| info.head.state == State::Succeeded);
        }
        worker.signal(Signal::TERM);
        assert!(worker.wait(PATIENCE).success(), "{}", worker.said());
        place.says(&format!("task retry {id}"));
    }
}
