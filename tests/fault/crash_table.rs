//! Every row of the crash table: a real process dies at a named point, another one goes on, and nothing is lost, doubled or
//! forgotten.
//!
//! Each test is one point. The process that is armed must die there, which shows that the point was reached; what is left
//! is drained by a worker that is not, and held against what was enqueued and against the laws of histories.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use omniq_model::{EventKind, State};
use rustix::process::Signal;

use crate::support::judge::Judge;
use crate::support::place::{LEASE, Place, STEPS};
use crate::support::process::{PATIENCE, Process};
use crate::support::story::{self, Batch, every_kind};

/// The signal of a process that aborts.
const ABORT: i32 = 6;

/// A queue with the tasks' component in it, with short pauses between attempts.
fn place() -> Place {
    let place =
        Place::new().with("OMNIQ_RETRY_DELAY", "50ms").with("OMNIQ_RETRY_MAX_DELAY", "50ms");
    place.says(&format!("push {STEPS}"));
    place
}

/// Starts a worker that will die at `point`.
fn armed(place: &Place, point: &str) -> Process {
    let mut command = place.command(["worker"]);
    command.env("OMNIQ_FAILPOINT", point);
    Process::start(place.path(), "armed worker", command)
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
fn worker(point: &str) {
    let place = place();
    let batches = every_kind();
    batches.iter().for_each(|batch| batch.enqueue(&place));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
}

/// A worker dies at `point` when there is something of a dead worker's to take over.
#[track_caller]
fn heir(point: &str) {
    let place = place();
    let batches = [Batch::new("slow", "rest", ["[4000]"; 4])];
    batches[0].enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    let judge = Judge::new(&place);
    for id in batches[0].ids() {
        judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    }
    dead.kill();
    // Only when its lease is over is there anything to take over.
    std::thread::sleep(LEASE + Duration::from_millis(200));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
    for id in batches[0].ids() {
        let head = judge.info(id).head;
        assert!(head.crashes >= 1 && head.attempt == 1, "a crash is no attempt: {head:?}");
    }
}

/// A worker dies at `point` while it mends the log after one that died before it had written its events.
#[track_caller]
fn repair(point: &str) {
    let place = place();
    let batches = every_kind();
    batches.iter().for_each(|batch| batch.enqueue(&place));
    dies(&mut armed(&place, "worker.finish.after_answer"));
    dies(&mut armed(&place, point));
    goes_on(&place, &batches);
}

/// A worker that has done its work dies at `point` while it ends.
#[track_caller]
fn stopping(point: &str) {
    let place = place();
    let batches = every_kind();
    batches.iter().for_each(|batch| batch.enqueue(&place));
    let mut worker = armed(&place, point);
    Judge::new(&place).drained(PATIENCE);
    worker.signal(Signal::TERM);
    dies(&mut worker);
    goes_on(&place, &batches);
}

/// A producer dies at `point`, and is run again.
#[track_caller]
fn producer(point: &str) {
    let place = place();
    let batches = every_kind();
    for batch in &batches {
        let mut command = batch.command(&place);
        command.env("OMNIQ_FAILPOINT", point);
        let mut process = Process::start(place.path(), "armed producer", command);
        dies(&mut process);
        batch.enqueue(&place);
    }
    goes_on(&place, &batches);
}

/// A command that changes one task dies at `point`, and is run again.
#[track_caller]
fn command(words: &str, point: &str, batch: &Batch, before: State, after: State) {
    let place = place();
    batch.enqueue(&place);
    let judge = Judge::new(&place);
    let id = batch.ids()[0];
    if before.is_terminal() {
        place.says("worker --drain");
    }
    assert_eq!(judge.info(id).head.state, before);
    let words: Vec<_> = words.split(' ').map(str::to_owned).chain([id.to_string()]).collect();
    let mut armed = place.command(&words);
    armed.env("OMNIQ_FAILPOINT", point);
    dies(&mut Process::start(place.path(), "armed command", armed));
    let mut again = place.start("command again", &words);
    again.wait(PATIENCE);
    assert_eq!(judge.info(id).head.state, after, "{}", again.said());
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident: $who:ident at $point:literal;)+) => {
        $($(#[$doc])* #[test] fn $name() { $who($point); })+
    };
}

// The claim was committed, and the worker never heard of it, or died before it could start anything: the lease runs out,
// the task is claimed again under a new token, and no attempt is counted.
rows! {
    claim_not_committed: worker at "sqlite.claim.before_commit";
    claim_answer_lost: worker at "sqlite.claim.after_commit";
    claim_answered: worker at "worker.claim.after_answer";
    attempt_not_started: worker at "worker.attempt.before_start";
    attempt_run: worker at "worker.attempt.after_run";
}

// A result was staged, or perhaps staged, and its task not ended: the next attempt stages its own under its own token.
rows! {
    result_not_put: worker at "sqlite.put_results.before_commit";
    result_perhaps_put: worker at "sqlite.put_results.after_commit";
    result_put: worker at "worker.result.after_put";
}

// The end was perhaps committed: either it is there with all that follows from it, or the task runs again.
rows! {
    end_not_sent: worker at "worker.finish.before";
    end_not_committed: worker at "sqlite.finish.before_commit";
    end_answer_lost: worker at "sqlite.finish.after_commit";
    end_answered: worker at "worker.finish.after_answer";
}

// The end was committed and its event not written, or perhaps: the log is repaired from the records.
rows! {
    event_not_sent: worker at "worker.events.before";
    event_not_written: worker at "sqlite.append.before_commit";
    event_written: worker at "sqlite.append.after_commit";
    repair_not_noted: repair at "sqlite.set_watermark.before_commit";
    repair_noted: repair at "sqlite.set_watermark.after_commit";
}

// Sessions and time.
rows! {
    session_not_opened: worker at "sqlite.open_session.before_commit";
    session_opened: worker at "sqlite.open_session.after_commit";
    heartbeat_lost: worker at "sqlite.heartbeat.before_commit";
    heartbeat_answer_lost: worker at "sqlite.heartbeat.after_commit";
    due_task_not_promoted: worker at "sqlite.promote.before_commit";
    due_task_promoted: worker at "sqlite.promote.after_commit";
    nothing_taken_over: heir at "sqlite.reclaim.before_commit";
    taken_over: heir at "sqlite.reclaim.after_commit";
    session_not_closed: stopping at "sqlite.close_session.before_commit";
    session_closed: stopping at "sqlite.close_session.after_commit";
}

// A producer does not know whether its tasks were accepted: the same tasks under the same ids are accepted once.
rows! {
    enqueue_not_sent: producer at "enqueue.before";
    enqueue_not_committed: producer at "sqlite.enqueue.before_commit";
    enqueue_answer_lost: producer at "sqlite.enqueue.after_commit";
    enqueue_answered: producer at "enqueue.after_answer";
}

#[test]
fn a_push_is_repeated() {
    for point in ["sqlite.push_module.before_commit", "sqlite.push_module.after_commit"] {
        let place = Place::new();
        let mut armed = place.command(["push", STEPS]);
        armed.env("OMNIQ_FAILPOINT", point);
        dies(&mut Process::start(place.path(), "armed push", armed));
        place.says(&format!("push {STEPS}"));
        let batches = every_kind();
        batches.iter().for_each(|batch| batch.enqueue(&place));
        goes_on(&place, &batches);
    }
}

#[test]
fn a_cancel_is_repeated() {
    for point in ["sqlite.cancel.before_commit", "sqlite.cancel.after_commit"] {
        let batch = Batch::new("waiting", "draw", ["[]"]).option("--delay=1h");
        command("task cancel", point, &batch, State::Scheduled, State::Cancelled);
    }
}

#[test]
fn a_retry_by_hand_is_repeated() {
    for point in ["sqlite.retry.before_commit", "sqlite.retry.after_commit"] {
        let batch = Batch::new("failed", "refuse", ["[]"]).option("--retries=0");
        command("task retry", point, &batch, State::Failed, State::Ready);
    }
}

/// A worker is killed while a guest runs: the other half of `attempt_not_started`.
#[test]
fn killed_while_a_guest_runs() {
    let place = place();
    let batches = [Batch::new("slow", "rest", ["[4000]"; 4])];
    batches[0].enqueue(&place);
    let mut dead = place.start("dead worker", ["worker"]);
    let judge = Judge::new(&place);
    for id in batches[0].ids() {
        judge.until(id, PATIENCE, |info| info.head.state == State::Running);
    }
    dead.kill();
    goes_on(&place, &batches);
    for id in batches[0].ids() {
        let head = judge.info(id).head;
        assert_eq!((head.crashes, head.attempt, head.fence), (1, 1, 2), "{head:?}");
        assert!(judge.has_event(id, EventKind::LeaseLost), "the log says so");
    }
}

/// A task that kills whoever runs it ends in the dead letter queue after its budget of crashes; those behind it run.
#[test]
fn a_task_that_kills_its_workers_is_given_up() {
    let place = place().with("OMNIQ_CRASH_BUDGET", "2");
    let batches = [Batch::new("poison", "rest", ["[10]"])];
    batches[0].enqueue(&place);
    let judge = Judge::new(&place);
    let id = batches[0].ids()[0];
    for round in 1..=3 {
        dies(&mut armed(&place, "worker.attempt.after_run"));
        let head = judge.info(id).head;
        assert_eq!((head.state, head.fence), (State::Running, round), "{head:?}");
    }
    let behind = Batch::twice("behind", 7, 1);
    behind.enqueue(&place);
    let mut worker = place.start("worker", ["worker"]);
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
