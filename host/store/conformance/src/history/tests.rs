//! Each check is fed a history that breaks its promise, and must say so; and one that keeps it, and must not.

use std::sync::Arc;

use omniq_model::{
    EventKind, Head, Lane, OnParentFailure, Payload, Scope, SessionId, State, Task, TaskEvent,
    TaskId, TaskResult, Timestamp, Token, Unique,
};
use omniq_store::Info;

use super::entry::fingerprint;
use super::{Entry, Fate, Law, Offer, Recorder, Verdict, What, check, check_events, read};
use crate::kit::{error, module, name};

const WORKER: SessionId = SessionId::new(1);

fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn token(fence: u64) -> Token {
    Token { fence, nonce: fence * 100 }
}

/// A record that succeeded by `fence` with the value `v`, from instant 10 to 90, started at 50.
fn record(number: u8, fence: u64) -> Info {
    let task = Task::new(id(number), module("job"), "run", Payload::cbor([0xa0]));
    let head = Head {
        state: State::Succeeded,
        seq: number.into(),
        attempt: 1,
        crashes: 0,
        fence,
        lease: None,
        cancel_requested: false,
        created: at(10),
        run_at: None,
        started: Some(at(50)),
        finished: Some(at(90)),
        error: None,
        result: Some(TaskResult::success(Payload::raw(*b"v"))),
    };
    Info { id: id(number), lane: Lane::default(), task: Ok(Arc::new(task)), head }
}

fn with_task(mut info: Info, change: impl FnOnce(&mut Task)) -> Info {
    let mut task = info.task.as_deref().unwrap().clone();
    change(&mut task);
    info.task = Ok(Arc::new(task));
    info
}

fn with_head(mut info: Info, change: impl FnOnce(&mut Head)) -> Info {
    change(&mut info.head);
    info
}

fn entry(t0: i64, t1: i64, what: What) -> Entry {
    Entry { t0, t1, store: Some((at(t0), at(t1))), client: 0, what }
}

fn enqueue(t0: i64, t1: i64, number: u8) -> Entry {
    entry(t0, t1, What::Enqueue { task: id(number), outcome: Offer::Acked })
}

fn claim(t0: i64, t1: i64, fence: u64) -> Entry {
    let session = Some(SessionId::new(fence));
    entry(t0, t1, What::Claim { task: id(1), token: token(fence), session, attempt: 1 })
}

fn finish(t0: i64, t1: i64, fence: u64, outcome: Fate) -> Entry {
    ended(t0, t1, fence, State::Succeeded, Some(b"v"), outcome)
}

fn ended(t0: i64, t1: i64, fence: u64, state: State, value: Option<&[u8]>, outcome: Fate) -> Entry {
    let value = value.map(fingerprint);
    entry(t0, t1, What::Finish { task: id(1), token: token(fence), state, value, outcome })
}

fn seen(t0: i64, t1: i64, state: State, fence: u64, value: Option<&[u8]>) -> Entry {
    entry(t0, t1, What::Read { task: id(1), state, fence, value: value.map(fingerprint) })
}

fn moved(t0: i64, t1: i64, fence: u64, from: State, to: State) -> Entry {
    entry(t0, t1, What::Move { task: id(1), fence, from, to })
}

/// A life as it should be: accepted, claimed, ended.
fn good() -> Vec<Entry> {
    vec![enqueue(10, 20, 1), claim(50, 60, 1), finish(80, 90, 1, Fate::Applied)]
}

fn laws(verdict: &Verdict) -> Vec<Law> {
    let mut laws: Vec<_> = verdict.violations.iter().map(|one| one.law).collect();
    laws.dedup();
    laws
}

/// The good life of one task with `more` in its history is judged so.
#[track_caller]
fn judged(more: Vec<Entry>, record: Info, expected: &[Law]) {
    let mut entries = good();
    entries.extend(more);
    let verdict = check(&entries, &[record]);
    assert_eq!(laws(&verdict), expected, "{verdict}");
}

#[test]
fn a_good_life_is_clean_and_counted() {
    let verdict = check(&good(), &[record(1, 1)]);
    verdict.assert_clean();
    let tally = verdict.tally;
    assert_eq!((tally.offered, tally.acked, tally.records), (1, 1, 1));
    assert_eq!((tally.attempts, tally.commits, tally.lost), (1, 1, 0));
    assert_eq!(tally.states, [(State::Succeeded, 1)].into());
}

#[test]
fn a_task_that_is_gone_is_lost() {
    let verdict = check(&good(), &[]);
    assert_eq!(laws(&verdict), [Law::NoLoss]);
    assert_eq!(verdict.tally.lost, 1);
    let unknown = [Entry::unknown(id(1))];
    check(&unknown, &[]).assert_clean();
    let recovered = check(&unknown, &[record(1, 1)]);
    assert_eq!((recovered.tally.unknown, recovered.tally.recovered), (1, 1));
    recovered.assert_clean();
}

#[test]
fn a_task_that_nobody_offered_is_invented() {
    assert_eq!(laws(&check(&[], &[record(1, 1)])), [Law::NoInvention]);
    let refused = entry(1, 2, What::Enqueue { task: id(1), outcome: Offer::Refused });
    assert_eq!(laws(&check(&[refused], &[record(1, 1)])), [Law::NoInvention]);
}

#[test]
fn a_task_that_has_not_ended_is_told() {
    let ready = with_head(record(1, 0), |head| {
        (head.state, head.finished, head.result, head.started) = (State::Ready, None, None, None);
        head.attempt = 0;
    });
    assert_eq!(laws(&check(&[enqueue(10, 20, 1)], &[ready])), [Law::AllEnd]);
}

#[test]
fn fences_go_up() {
    let later = || with_head(record(1, 2), |_| {});
    judged(vec![claim(55, 65, 1)], record(1, 1), &[Law::TokensGoUp]);
    // The second claim was over before the first began.
    let mut entries = vec![enqueue(10, 20, 1), claim(50, 60, 1), claim(30, 40, 2)];
    entries.push(finish(80, 90, 2, Fate::Applied));
    assert_eq!(laws(&check(&entries, &[later()])), [Law::TokensGoUp]);
    entries[2] = claim(55, 65, 2); // at the same time: either may have been first
    check(&entries, &[later()]).assert_clean();
    let behind = with_head(record(1, 1), |_| {});
    entries.pop();
    entries.push(finish(80, 90, 1, Fate::Unknown));
    assert_eq!(laws(&check(&entries, &[behind])), [Law::TokensGoUp], "the record is behind");
}

#[test]
fn a_lease_has_one_holder_while_its_session_lives() {
    let beat = |t0, t1| entry(t0, t1, What::Beat { session: WORKER, lease: 100 });
    let run = |second: Entry, more: Vec<Entry>| {
        let mut entries = vec![enqueue(1, 2, 1), beat(10, 20), claim(30, 40, 1), second];
        entries.push(finish(300, 310, 2, Fate::Applied));
        entries.extend(more);
        laws(&check(&entries, &[record(1, 2)]))
    };
    // The session lives from instant 10 at least, so until 110 at least.
    assert_eq!(run(claim(100, 110, 2), vec![]), [Law::OneHolder]);
    assert_eq!(run(claim(100, 111, 2), vec![]), [], "it may have been over");
    assert_eq!(run(claim(150, 160, 2), vec![beat(90, 100)]), [Law::OneHolder]);
    assert_eq!(run(claim(150, 160, 2), vec![beat(140, 155)]), [], "too late to count");
    let quit = |t0| entry(t0, 500, What::Quit { session: WORKER });
    assert_eq!(run(claim(100, 110, 2), vec![quit(109)]), [], "it may have let go");
    assert_eq!(run(claim(100, 110, 2), vec![quit(111)]), [Law::OneHolder]);
    let released = || ended(90, 95, 1, State::Ready, None, Fate::Applied);
    assert_eq!(run(claim(100, 110, 2), vec![released()]), []);
    let reclaimed = || moved(90, 95, 1, State::Running, State::Ready);
    assert_eq!(run(claim(100, 110, 2), vec![reclaimed()]), []);
}

#[test]
fn a_token_commits_once_and_a_life_ends_once() {
    judged(vec![finish(91, 95, 1, Fate::Applied)], record(1, 1), &[Law::OneCommit]);
    judged(vec![finish(91, 95, 1, Fate::Before)], record(1, 1), &[]);
    let second = || vec![claim(91, 92, 2), finish(93, 94, 2, Fate::Applied)];
    judged(second(), record(1, 2), &[Law::OneCommit]);
    let mut entries = vec![
        enqueue(10, 20, 1),
        claim(50, 60, 1),
        ended(80, 90, 1, State::Failed, None, Fate::Applied),
        moved(90, 91, 1, State::Failed, State::Ready),
    ];
    entries.extend(second());
    check(&entries, &[record(1, 2)]).assert_clean();
}

#[test]
fn a_replaced_token_commits_nothing() {
    let run = |claimed: Entry, end: Entry| {
        let entries = vec![enqueue(1, 2, 1), claim(13, 14, 1), claimed, end];
        laws(&check(&entries, &[record(1, 2)]))
    };
    let retry = |t0| ended(t0, 70, 1, State::Scheduled, None, Fate::Applied);
    assert_eq!(run(claim(20, 30, 2), retry(31)), [Law::NoStaleCommit]);
    assert_eq!(run(claim(20, 30, 2), retry(29)), [], "at the same time");
    let stale = ended(31, 70, 1, State::Scheduled, None, Fate::Stale);
    assert_eq!(run(claim(20, 30, 2), stale), []);
}

#[test]
fn the_record_is_the_last_commits() {
    let failed = with_head(record(1, 1), |head| {
        head.state = State::Failed;
        head.result = Some(TaskResult::failure(error("it trapped")));
    });
    judged(vec![], failed, &[Law::TrueResult]);
    let other = with_head(record(1, 1), |head| {
        head.result = Some(TaskResult::success(Payload::raw(*b"forged")));
    });
    judged(vec![], other, &[Law::TrueResult]);
    // The value that was sent with a token that had been replaced.
    let entries = [
        enqueue(1, 2, 1),
        claim(13, 14, 1),
        ended(15, 16, 1, State::Succeeded, Some(b"v"), Fate::Stale),
    ];
    assert_eq!(laws(&check(&entries, &[record(1, 1)])), [Law::TrueResult]);
}

#[test]
fn a_read_sees_what_was_committed_before_it() {
    let fine = [
        seen(91, 92, State::Succeeded, 1, Some(b"v")),
        seen(61, 62, State::Running, 1, None),
        seen(85, 89, State::Running, 1, None),
    ];
    judged(fine.to_vec(), record(1, 1), &[]);
    for stale in [
        seen(91, 92, State::Running, 1, None),
        seen(61, 62, State::Ready, 0, None),
        seen(85, 89, State::Succeeded, 1, Some(b"another")),
        seen(30, 31, State::Failed, 0, None),
    ] {
        judged(vec![stale], record(1, 1), &[Law::FreshReads]);
    }
    let back =
        vec![seen(81, 82, State::Succeeded, 1, Some(b"v")), seen(83, 84, State::Running, 1, None)];
    judged(back, record(1, 1), &[Law::FreshReads]);
}

#[test]
fn states_change_by_the_table() {
    let odd = moved(21, 22, 0, State::Blocked, State::Running);
    judged(vec![odd], record(1, 1), &[Law::LegalMoves]);
    judged(vec![moved(21, 22, 0, State::Scheduled, State::Ready)], record(1, 1), &[]);
}

#[test]
fn a_unique_key_has_one_holder() {
    let keyed = |number, created, finished| {
        let info = with_task(record(number, 1), |task| {
            let (key, scope) = ("k".into(), Scope::UntilFinished);
            task.unique = Some(Unique {
                key,
                scope,
                window: Default::default(),
                unknown: Default::default(),
            });
        });
        with_head(info, |head| {
            (head.created, head.started, head.finished) =
                (at(created), Some(at(finished)), Some(at(finished)));
        })
    };
    let offers = [Entry::acked(id(1)), Entry::acked(id(2))];
    let overlap = [keyed(1, 10, 50), keyed(2, 49, 60)];
    assert_eq!(laws(&check(&offers, &overlap)), [Law::UniqueKeys]);
    check(&offers, &[keyed(1, 10, 50), keyed(2, 50, 60)]).assert_clean();
}

#[test]
fn a_child_starts_after_its_parents() {
    let offers = [Entry::acked(id(1)), Entry::acked(id(2))];
    let child = |started| {
        let info = with_task(record(2, 1), |task| task.after = vec![id(1)]);
        with_head(info, |head| (head.started, head.finished) = (Some(at(started)), Some(at(200))))
    };
    check(&offers, &[record(1, 1), child(90)]).assert_clean();
    assert_eq!(laws(&check(&offers, &[record(1, 1), child(89)])), [Law::Dependencies]);
    let failed = || {
        with_head(record(1, 1), |head| {
            head.state = State::Failed;
            head.result = Some(TaskResult::failure(error("it trapped")));
        })
    };
    assert_eq!(laws(&check(&offers, &[failed(), child(90)])), [Law::Dependencies]);
    let stubborn = with_task(child(90), |task| task.on_parent_failure = OnParentFailure::Run);
    check(&offers, &[failed(), stubborn]).assert_clean();
    let stuck = with_head(child(90), |head| {
        (head.state, head.started, head.finished, head.result) = (State::Blocked, None, None, None);
        (head.attempt, head.fence) = (0, 0);
    });
    let verdict = check(&offers, &[record(1, 1), stuck]);
    assert_eq!(laws(&verdict), [Law::AllEnd, Law::Dependencies]);
}

#[test]
fn nothing_starts_before_its_time() {
    let due = |millis| with_task(record(1, 1), |task| task.run_at = Some(at(millis)));
    judged(vec![], due(50), &[]);
    judged(vec![], due(51), &[Law::NotTooEarly]);
}

#[test]
fn budgets_are_kept() {
    judged(
        vec![],
        with_head(record(1, 9), |head| head.attempt = 4),
        &[Law::TrueResult, Law::Budgets],
    );
    let offers = [Entry::acked(id(1))];
    for (attempt, crashes, fence, expected) in [
        (3, 0, 3, &[][..]),
        (4, 0, 4, &[Law::Budgets]),
        (0, 4, 4, &[]),
        (0, 5, 5, &[Law::Budgets]),
        (2, 2, 3, &[Law::Budgets]),
    ] {
        let used = with_head(record(1, fence), |head| {
            (head.attempt, head.crashes) = (attempt, crashes);
        });
        assert_eq!(laws(&check(&offers, &[used])), expected, "{attempt} {crashes} {fence}");
    }
}

#[test]
fn a_schedule_fires_once() {
    let fire = |t0, version, nominal, task: u8, fired| {
        let what = What::Fire {
            schedule: name("nightly"),
            version,
            nominal: at(nominal),
            task: id(task),
            fired,
        };
        entry(t0, t0 + 1, what)
    };
    let run = |second: Entry| {
        let entries = [fire(1, 1, 100, 1, Some(true)), second];
        laws(&check(&entries, &[record(1, 1), record(2, 1)]))
    };
    assert_eq!(run(fire(5, 2, 200, 2, Some(true))), []);
    assert_eq!(run(fire(5, 1, 200, 2, Some(true))), [Law::FiresOnce], "the same version");
    assert_eq!(run(fire(5, 2, 100, 2, Some(true))), [Law::FiresOnce], "the same instant");
    assert_eq!(run(fire(5, 1, 100, 2, Some(false))), [Law::NoInvention], "the loser makes nothing");
}

#[test]
fn events_and_records_tell_the_same_story() {
    let event = |kind, fence, millis| TaskEvent {
        task: id(1),
        fence,
        kind,
        at: at(millis),
        lane: Lane::default(),
        attempt: 1,
        session: None,
        error: None,
        micros: 0,
        missing: 0,
        what: String::new(),
        began: None,
        unknown: Default::default(),
    };
    let offers = [Entry::acked(id(1))];
    let started = |fence| event(EventKind::Started, fence, 51);
    let done = |fence| event(EventKind::Succeeded, fence, 91);
    let run =
        |events: &[TaskEvent], fence| laws(&check_events(&offers, events, &[record(1, fence)]));
    assert_eq!(run(&[event(EventKind::Enqueued, 0, 11), started(1), done(1)], 1), []);
    let retried = event(EventKind::Retrying, 1, 60);
    assert_eq!(run(&[started(1), retried, started(2), done(2)], 2), []);
    let lost = event(EventKind::LeaseLost, 1, 60);
    assert_eq!(run(&[started(1), lost, done(2)], 2), []);
    assert_eq!(run(&[started(1)], 1), [Law::EventsComplete], "the end is missing");
    let wrong = run(&[started(1), started(2), done(1)], 2);
    assert_eq!(wrong, [Law::TrueResult, Law::EventsComplete]);
    let twice = run(&[started(1), done(1), event(EventKind::Failed, 1, 92)], 1);
    assert_eq!(twice, [Law::OneCommit, Law::TrueResult, Law::EventsComplete]);
    let again =
        [event(EventKind::Failed, 1, 60), event(EventKind::Retried, 1, 70), started(2), done(2)];
    assert_eq!(run(&again, 2), []);
    assert_eq!(run(&[started(3), done(2)], 2), [Law::TokensGoUp], "a claim the record forgot");
}

#[test]
fn a_history_goes_to_lines_and_back() {
    let recorder = Recorder::default();
    let call = recorder.begin(3, at(5));
    recorder.end(call, at(6), good().into_iter().map(|entry| entry.what));
    recorder.lost(recorder.begin(3, at(7)), [What::Quit { session: WORKER }]);
    let mut lines = Vec::new();
    recorder.write(&mut lines).unwrap();
    let text = String::from_utf8(lines.clone()).unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(
        text.starts_with(r#"{"t0":0,"t1":1,"store":[5,6],"client":3,"op":"enqueue""#),
        "{text}"
    );
    assert!(text.contains(r#""state":"succeeded""#), "{text}");
    assert_eq!(read(&lines[..]).unwrap(), recorder.entries());
    let wrong = read(&b"{}"[..]).unwrap_err();
    assert!(wrong.to_string().starts_with("line 1: "), "{wrong}");
}
