//! Every row of the crash table: a real process dies at a named point, another one goes on, and nothing is lost, doubled or
//! forgotten.
//!
//! Each test is one point, on one backend. The process that is armed must die there, which shows that the point was reached;
//! what is left is drained by a worker that is not, and held against what was enqueued and against the laws of histories.
//!
//! While a process is armed the test has no store open itself: of a log in files one process is the owner, and the points are
//! the owner's.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use omniq_model::{EventKind, State};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::judge::Judge;
use crate::support::place::{LEASE, Place, STEPS};
use crate::support::process::{PATIENCE, Process, until};
use crate::support::story::{self, Batch, every_kind};

/// The signal of a process that aborts.
const ABORT: i32 = 6;

/// A queue with the tasks' component in it, with short pauses between attempts.
fn place(backend: Backend) -> Place {
    let place = short(backend);
    place.says(&format!("push {STEPS}"));
    place
}

fn short(backend: Backend) -> Place {
    let place = Place::on(backend);
    place.with("OMNIQ_RETRY_DELAY", "50ms").with("OMNIQ_RETRY_MAX_DELAY", "50ms")
}

/// Tasks of every kind; where a command takes a second, of fewer.
fn kinds(backend: Backend) -> Vec<Batch> {
    let mut all = every_kind();
    if backend == Backend::S3 {
        all.truncate(2);
    }
    all
}

/// Starts a worker that will die at `point`.
fn armed(place: &Place, point: &str) -> Process {
    armed_with(place, point, place.command(["worker"]))
}

/// Starts a command that will die at `point`.
fn armed_with(place: &Place, point: &str, mut command: Command) -> Process {
    command.env("OMNIQ_FAILPOINT", place.backend.point(point));
    Process::start(place.path(), "armed process", command)
}

/// Waits for a process to die at its point.
#[track_caller]
fn dies(process: &mut Process) {
    let status = process.wait(PATIENCE);
    assert_eq!(status.signal(), Some(ABORT), "it did not reach its point\n{}", process.said());
}

/// Lets a worker that is not armed bring everything to its end, and checks what is there then.
#[track_caller]
fn goes_on(place: &Place, batches: &[Batch]) {
    let mut worker = place.start("worker", ["worker"]);
    let judge = Judge::new(place);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "the worker ended with {status}\n{}", worker.said());
    story::check(&judge, batches);
}

/// A worker dies at `point` while it works on tasks of every kind.
#[track_caller]
fn worker(backend: Backend, point: &str) {
    let place = place(backend);
    let batches = kinds(backend);
    batches.iter().for_each(|batch| batch.enqueue(&place));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
}

/// Waits until all of these run.
#[track_caller]
fn running(place: &Place, batch: &Batch) {
    let judge = Judge::new(place);
    for id in batch.ids() {
        judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    }
}

/// A worker dies at `point` when there is something of a dead worker's to take over.
#[track_caller]
fn heir(backend: Backend, point: &str) {
    let place = place(backend);
    let batches = [Batch::new("slow", "rest", ["[4000]"; 4])];
    batches[0].enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    running(&place, &batches[0]);
    dead.kill();
    // Only when its lease is over is there anything to take over.
    std::thread::sleep(LEASE + Duration::from_millis(200));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
    let judge = Judge::new(&place);
    for id in batches[0].ids() {
        let head = judge.info(id).head;
        assert!(head.crashes >= 1 && head.attempt == 1, "a crash is no attempt: {head:?}");
    }
}

/// A worker dies at `point` while it mends the log after one that died before it had written its events.
#[track_caller]
fn repair(backend: Backend, point: &str) {
    let place = place(backend);
    let batches = kinds(backend);
    batches.iter().for_each(|batch| batch.enqueue(&place));
    dies(&mut armed(&place, "worker.finish.after_answer"));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
}

/// A worker that has done its work dies at `point` while it ends.
#[track_caller]
fn stopping(backend: Backend, point: &str) {
    let place = place(backend);
    let batches = kinds(backend);
    batches.iter().for_each(|batch| batch.enqueue(&place));
    let mut worker = armed(&place, point);
    Judge::new(&place).drained(PATIENCE);
    worker.signal(Signal::TERM);
    dies(&mut worker);
    goes_on(&place, &batches);
}

/// A producer dies at `point`, and is run again.
#[track_caller]
fn producer(backend: Backend, point: &str) {
    let place = place(backend);
    let batches = kinds(backend);
    for batch in &batches {
        dies(&mut armed_with(&place, point, batch.command(&place)));
        batch.enqueue(&place);
    }
    goes_on(&place, &batches);
}

/// A command that changes one task dies at `point`, and is run again.
#[track_caller]
fn command(place: &Place, words: &str, point: &str, batch: &Batch, states: [State; 2]) {
    let [before, after] = states;
    place.says(&format!("push {STEPS}"));
    batch.enqueue(place);
    let id = batch.ids()[0];
    if before.is_terminal() {
        place.says("worker --drain");
    }
    assert_eq!(Judge::new(place).info(id).head.state, before);
    let words: Vec<_> = words.split(' ').map(str::to_owned).chain([id.to_string()]).collect();
    dies(&mut armed_with(place, point, place.command(&words)));
    let mut again = place.start("command again", &words);
    again.wait(PATIENCE);
    assert_eq!(Judge::new(place).info(id).head.state, after, "{}", again.said());
}

fn pushed_again(backend: Backend, point: &str) {
    let place = short(backend);
    dies(&mut armed_with(&place, point, place.command(["push", STEPS])));
    place.says(&format!("push {STEPS}"));
    let batches = kinds(backend);
    batches.iter().for_each(|batch| batch.enqueue(&place));
    goes_on(&place, &batches);
}

fn cancelled_again(backend: Backend, point: &str) {
    let batch = Batch::new("waiting", "draw", ["[]"]).option("--delay=1h");
    let states = [State::Scheduled, State::Cancelled];
    command(&short(backend), "task cancel", point, &batch, states);
}

fn retried_again(backend: Backend, point: &str) {
    let batch = Batch::new("failed", "refuse", ["[]"]).option("--retries=0");
    command(&short(backend), "task retry", point, &batch, [State::Failed, State::Ready]);
}

/// A worker is killed while a guest runs: the other half of `attempt_not_started`.
fn guest(backend: Backend) {
    let place = place(backend);
    let batches = [Batch::new("slow", "rest", ["[4000]"; 4])];
    batches[0].enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    running(&place, &batches[0]);
    dead.kill();
    goes_on(&place, &batches);
    let judge = Judge::new(&place);
    for id in batches[0].ids() {
        let head = judge.info(id).head;
        assert_eq!((head.crashes, head.attempt, head.fence), (1, 1, 2), "{head:?}");
        assert!(judge.has_event(id, EventKind::LeaseLost), "the log says so");
    }
}

/// From the death of a worker to the next run of its tasks: one lease, one look of the keeper, which comes once a second, and
/// what a debug build on a busy machine takes.
const RECOVERY: Duration = Duration::from_secs(15);

/// A worker is killed while another one is at work, which takes its tasks over.
fn in_time(backend: Backend) {
    let place = place(backend);
    let batches = [Batch::new("slow", "rest", ["[6000]"; 4])];
    batches[0].enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    running(&place, &batches[0]);
    let mut heir = place.start("heir", ["worker"]);
    let judge = Judge::new(&place);
    until("the heir to be there", PATIENCE, || judge.workers().len() == 2);
    dead.kill();
    let died = Instant::now();
    for id in batches[0].ids() {
        judge.until(id, PATIENCE, |info| info.head.fence == 2);
    }
    let took = died.elapsed();
    println!(
        "{backend:?}: tasks of a dead worker ran again {took:?} after its death, with a lease of {LEASE:?}"
    );
    assert!(took < RECOVERY, "it took {took:?}\n{}", heir.said());
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    heir.signal(Signal::TERM);
    heir.wait(PATIENCE);
    story::check(&judge, &batches);
}

/// A task that kills whoever runs it ends in the dead letter queue after its budget of crashes; those behind it run.
fn poison(backend: Backend) {
    let place = place(backend).with("OMNIQ_CRASH_BUDGET", "2");
    let batches = [Batch::new("poison", "rest", ["[10]"])];
    batches[0].enqueue(&place);
    let id = batches[0].ids()[0];
    for round in 1..=3 {
        dies(&mut armed(&place, "worker.attempt.after_run"));
        let head = Judge::new(&place).info(id).head;
        assert_eq!((head.state, head.fence), (State::Running, round), "{head:?}");
    }
    let behind = Batch::twice("behind", 7, 1);
    behind.enqueue(&place);
    let mut worker = place.start("worker", ["worker"]);
    let judge = Judge::new(&place);
    judge.drained(PATIENCE);
    judge.reconciled(PATIENCE);
    worker.signal(Signal::TERM);
    worker.wait(PATIENCE);
    let head = judge.info(id).head;
    assert_eq!((head.state, head.crashes, head.fence), (State::Failed, 3, 3), "{head:?}");
    let error = head.result.and_then(|result| result.error).expect("a failed task has an error");
    assert_eq!(error.kind, "crashed");
    let behind_it = behind.ids()[0];
    story::check_one(&judge, &judge.info(behind_it), &behind.expected()[&behind_it]);
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident: $who:ident at $point:literal;)+) => {
        $($(#[$doc])* #[test] fn $name() { $who(BACKEND, $point); })+
    };
}

/// What every backend has. A point that begins with `store.` is the backend's own.
macro_rules! rows_of_tasks {
    () => {
        // The claim was committed, and the worker never heard of it, or died before it could start anything: the lease runs
        // out, the task is claimed again under a new token, and no attempt is counted.
        rows! {
            claim_not_committed: worker at "store.claim.before";
            claim_answer_lost: worker at "store.claim.after";
            claim_answered: worker at "worker.claim.after_answer";
            attempt_not_started: worker at "worker.attempt.before_start";
            attempt_run: worker at "worker.attempt.after_run";
            result_put: worker at "worker.result.after_put";
        }

        // The end was perhaps committed: either it is there with all that follows from it, or the task runs again.
        rows! {
            end_not_sent: worker at "worker.finish.before";
            end_not_committed: worker at "store.finish.before";
            end_answer_lost: worker at "store.finish.after";
            end_answered: worker at "worker.finish.after_answer";
            event_not_sent: worker at "worker.events.before";
        }

        // Time.
        rows! {
            due_task_not_promoted: worker at "store.promote.before";
            due_task_promoted: worker at "store.promote.after";
            nothing_taken_over: heir at "store.reclaim.before";
            taken_over: heir at "store.reclaim.after";
        }

        // A producer does not know whether its tasks were accepted: the same tasks under the same ids are accepted once.
        rows! {
            enqueue_not_sent: producer at "enqueue.before";
            enqueue_not_committed: producer at "store.enqueue.before";
            enqueue_answer_lost: producer at "store.enqueue.after";
            enqueue_answered: producer at "enqueue.after_answer";
            cancel_not_committed: cancelled_again at "store.cancel.before";
            cancel_answer_lost: cancelled_again at "store.cancel.after";
            retry_by_hand_not_committed: retried_again at "store.retry.before";
            retry_by_hand_answer_lost: retried_again at "store.retry.after";
        }

        #[test]
        fn killed_while_a_guest_runs() {
            guest(BACKEND);
        }

        #[test]
        fn a_task_that_kills_its_workers_is_given_up() {
            poison(BACKEND);
        }
    };
}

/// Where no process owns the store, so that others are at work when one dies.
macro_rules! rows_of_servers {
    () => {
        #[test]
        fn tasks_of_a_dead_worker_run_again_in_time() {
            in_time(BACKEND);
        }
    };
}

/// Where sessions have points of their own.
macro_rules! rows_of_sessions {
    () => {
        rows! {
            session_not_opened: worker at "store.open_session.before";
            session_opened: worker at "store.open_session.after";
            heartbeat_lost: worker at "store.heartbeat.before";
            heartbeat_answer_lost: worker at "store.heartbeat.after";
            session_not_closed: stopping at "store.close_session.before";
            session_closed: stopping at "store.close_session.after";
        }
    };
}

/// Where staged results have.
macro_rules! rows_of_results {
    () => {
        // A result was staged, or perhaps staged, and its task not ended: the next attempt stages its own under its own token.
        rows! {
            result_not_put: worker at "store.put_results.before";
            result_perhaps_put: worker at "store.put_results.after";
        }
    };
}

/// Where modules have.
macro_rules! rows_of_modules {
    () => {
        rows! {
            push_not_committed: pushed_again at "store.push_module.before";
            push_answer_lost: pushed_again at "store.push_module.after";
        }
    };
}

/// Where events are kept, too.
macro_rules! rows_of_events {
    () => {
        // The end was committed and its event not written, or perhaps: the log is repaired from the records.
        rows! {
            event_not_written: worker at "store.append.before";
            event_written: worker at "store.append.after";
            repair_not_noted: repair at "store.set_watermark.before";
            repair_noted: repair at "store.set_watermark.after";
        }
    };
}

mod sqlite {
    use super::*;

    const BACKEND: Backend = Backend::Sqlite;
    rows_of_tasks!();
    rows_of_sessions!();
    rows_of_results!();
    rows_of_modules!();
    rows_of_events!();
}

mod file {
    use super::*;

    const BACKEND: Backend = Backend::File;
    rows_of_tasks!();
    rows_of_sessions!();

    // Results, modules and events are files of their own beside the log.
    rows! {
        result_listed: worker at "object.results.listed";
        bytes_of_a_module_put: pushed_again at "object.modules.bytes";
        event_not_written: worker at "object.events.before";
    }

    #[test]
    fn tasks_of_a_dead_owner_run_again_in_time() {
        in_time(BACKEND);
    }
}

mod redis {
    use super::*;

    const BACKEND: Backend = Backend::Redis;
    rows_of_tasks!();
    rows_of_servers!();
    rows_of_sessions!();
    rows_of_results!();
    rows_of_modules!();
}

mod postgres {
    use super::*;

    const BACKEND: Backend = Backend::Postgres;
    rows_of_tasks!();
    rows_of_servers!();
    rows_of_sessions!();
    rows_of_results!();
    rows_of_modules!();
    rows_of_events!();
}

mod nats {
    use super::*;

    const BACKEND: Backend = Backend::Nats;
    rows_of_tasks!();
    rows_of_servers!();
    rows_of_sessions!();
    rows_of_results!();
    rows_of_modules!();

    // The command came back from the log before the server had acknowledged it, and whoever asked was told nothing.
    rows! {
        claim_applied: worker at "nats.claim.after_apply";
        end_applied: worker at "nats.finish.after_apply";
        enqueue_applied: producer at "nats.enqueue.after_apply";
    }
}

/// Some of the rows of files, whose log works as this one does: each death of an owner keeps the next one waiting for a lease.
mod s3 {
    use super::*;

    const BACKEND: Backend = Backend::S3;

    rows! {
        claim_answer_lost: worker at "store.claim.after";
        end_answer_lost: worker at "store.finish.after";
        taken_over: heir at "store.reclaim.after";
        enqueue_answer_lost: producer at "store.enqueue.after";
        entry_not_put: worker at "object.append.before_put";
        result_listed: worker at "object.results.listed";
    }

    #[test]
    fn tasks_of_a_dead_owner_run_again_in_time() {
        in_time(BACKEND);
    }
}
