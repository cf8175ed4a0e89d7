use omniq_model::Span;

use super::*;
use crate::Outcome;

/// One task in every state, named after it.
fn zoo() -> Kit {
    let mut kit = Kit::of(vec![task("succeeded"), task("failed"), task("running")]);
    let session = kit.session();
    let leases = kit.claim(&session, 3);
    kit.finish(&leases[0], succeeded());
    kit.finish(&leases[1], failed());
    kit.enqueue(vec![
        with("blocked", |task| task.after = ids(&["running"])),
        with("scheduled", |task| task.delay = Span::from_secs(9)),
        task("ready"),
        task("cancelled"),
        with("expired", |task| task.ttl = Some(Span::ZERO)),
    ]);
    kit.call(|core, now| core.expire(now, 9));
    kit.call(|core, now| core.cancel(now, &these(&["cancelled"])));
    for state in State::ALL {
        assert_eq!(kit.state(state.name()), *state);
    }
    kit
}

const ALL: [&str; 8] =
    ["succeeded", "failed", "running", "blocked", "scheduled", "ready", "cancelled", "expired"];

fn everything() -> Select {
    Select { filter: Filter::default(), max: 100 }
}

fn names(skipped: &[(TaskId, State)]) -> Vec<&'static str> {
    skipped.iter().map(|(_, state)| state.name()).collect()
}

#[test]
fn cancel_ends_what_waits_and_asks_what_runs() {
    let mut kit = zoo();
    let outcome = kit.call(|core, now| core.cancel(now, &these(&ALL)));
    assert_eq!(
        moves(&outcome.moved),
        [
            (id("blocked"), State::Blocked, State::Cancelled),
            (id("scheduled"), State::Scheduled, State::Cancelled),
            (id("ready"), State::Ready, State::Cancelled),
        ]
    );
    assert_eq!(outcome.requested, ids(&["running"]));
    assert_eq!(names(&outcome.skipped), ["succeeded", "failed", "cancelled", "expired"]);
    assert!(kit.head("running").cancel_requested);
    for name in ["blocked", "scheduled", "ready"] {
        assert_eq!(kit.kind(name), Some(Kind::Cancelled), "{name}");
    }
}

#[test]
fn bulk_calls_come_to_an_end() {
    let mut kit = zoo();
    let select = Select { max: 2, ..everything() };
    let mut cancel = || kit.call(|core, now| core.cancel(now, &select));
    let first = cancel();
    assert_eq!((first.moved.len(), first.requested.len()), (1, 1));
    assert_eq!(cancel().moved.len(), 2);
    assert_eq!(cancel(), Outcome::default());
    let mut retry = || kit.call(|core, now| core.retry(now, &select)).moved.len();
    assert_eq!([retry(), retry(), retry(), retry()], [2, 2, 2, 0]);
}

#[test]
fn a_task_chosen_itself_is_called_off_for_its_own_sake() {
    let mut kit = Kit::of(vec![task("a"), with("b", |task| task.after = ids(&["a"]))]);
    let outcome = kit.call(|core, now| core.cancel(now, &everything()));
    assert_eq!(outcome.moved.len(), 2);
    assert_eq!(outcome.moved[0].id, id("a"));
    assert_eq!(kit.kind("b"), Some(Kind::Cancelled));
}

#[test]
fn a_second_request_by_id_is_answered_as_the_first() {
    let mut kit = zoo();
    for _ in 0..2 {
        let outcome = kit.call(|core, now| core.cancel(now, &these(&["running"])));
        assert_eq!(outcome.requested, ids(&["running"]));
    }
    let outcome = kit.call(|core, now| core.cancel(now, &Select { max: 0, ..everything() }));
    assert_eq!(outcome, Outcome::default());
}

#[test]
fn retry_by_hand_begins_anew_but_for_the_fence() {
    let mut kit = Kit::of(vec![with("t", |task| task.ttl = Some(Span::from_secs(5)))]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.finish(&lease, failed());
    kit.advance(9 * SECOND);
    let outcome = kit.call(|core, now| core.retry(now, &these(&["t"])));
    assert_eq!(moves(&outcome.moved), [(id("t"), State::Failed, State::Ready)]);
    let head = kit.head("t");
    assert_eq!((head.attempt, head.crashes, head.fence, head.seq), (0, 0, 1, 1));
    assert_eq!((head.finished, head.result), (None, None));
    assert_eq!(kit.finish(&lease, succeeded()), Finished::AppliedBefore(State::Ready));
    kit.advance(4 * SECOND);
    assert!(kit.call(|core, now| core.expire(now, 9)).is_empty(), "its time counts anew");
    let lease = kit.claim_one(&session);
    assert_eq!((lease.attempt, lease.token.fence), (1, 2));
}

#[test]
fn only_what_ended_without_success_is_retried() {
    let mut kit = zoo();
    let outcome = kit.call(|core, now| core.retry(now, &these(&ALL)));
    assert_eq!(
        moves(&outcome.moved),
        [
            (id("failed"), State::Failed, State::Ready),
            (id("cancelled"), State::Cancelled, State::Ready),
            (id("expired"), State::Expired, State::Ready),
        ]
    );
    assert_eq!(names(&outcome.skipped), ["succeeded", "running", "blocked", "scheduled", "ready"]);
}

#[test]
fn remove_forgets_what_has_ended() {
    let mut kit = zoo();
    let outcome = kit.call(|core, _| core.remove(&these(&ALL)));
    let gone = ["succeeded", "failed", "cancelled", "expired"];
    assert_eq!(claimed_ids(&outcome.moved), ids(&gone));
    assert!(outcome.moved.iter().all(|moved| moved.from == moved.to));
    assert_eq!(names(&outcome.skipped), ["running", "blocked", "scheduled", "ready"]);
    assert!(gone.iter().all(|name| !kit.exists(name)));
    assert_eq!(kit.enqueue(vec![task("failed")]), [Enqueued::Created]);
    assert_eq!(kit.head("failed").fence, 0);
}

fn claimed_ids(moved: &[Moved]) -> Vec<TaskId> {
    moved.iter().map(|moved| moved.id).collect()
}

#[test]
fn every_part_of_a_filter_counts() {
    let mut kit = Kit::of(vec![with("a", |task| {
        task.lane = Lane { tenant: "acme".parse().unwrap(), queue: "media".parse().unwrap() };
        task.labels.insert("customer".into(), "7".into());
    })]);
    kit.advance(SECOND);
    kit.enqueue(vec![task("b")]);
    let now = kit.now;
    let name = |text: &str| Some(text.parse().unwrap());
    let label = |value: &str| [("customer".to_owned(), value.to_owned())].into();
    let check = |filter: Filter, expected: &[&str]| {
        let page = kit.core.list(&filter, None, 9);
        assert_eq!(page.items.iter().map(|info| info.id).collect::<Vec<_>>(), ids(expected));
        let count: u64 = kit.core.count(&filter).values().sum();
        assert_eq!(count, expected.len() as u64, "{filter:?}");
    };
    let any = Filter::default;
    check(any(), &["b", "a"]);
    check(Filter { ids: ids(&["a", "a", "nobody"]), ..any() }, &["a"]);
    check(Filter { ids: ids(&["a", "b"]), tenant: name("acme"), ..any() }, &["a"]);
    check(Filter { states: vec![State::Ready, State::Ready], ..any() }, &["b", "a"]);
    check(Filter { states: vec![State::Running, State::Other(77)], ..any() }, &[]);
    check(Filter { tenant: name("acme"), ..any() }, &["a"]);
    check(Filter { queue: name("default"), ..any() }, &["b"]);
    check(Filter { tenant: name("acme"), queue: name("default"), ..any() }, &[]);
    check(Filter { module: name("m"), ..any() }, &["b", "a"]);
    check(Filter { module: name("other"), ..any() }, &[]);
    check(Filter { function: Some("f".into()), ..any() }, &["b", "a"]);
    check(Filter { function: Some("g".into()), ..any() }, &[]);
    check(Filter { labels: label("7"), ..any() }, &["a"]);
    check(Filter { labels: label("8"), ..any() }, &[]);
    check(Filter { created_from: Some(now), ..any() }, &["b"]);
    check(Filter { created_to: Some(now), ..any() }, &["a"]);
}

#[test]
fn lists_go_page_by_page_the_newest_first_over_all_states() {
    let mut kit = zoo();
    let mut newest = Vec::new();
    let mut before = None;
    loop {
        let page = kit.core.list(&Filter::default(), before, 3);
        newest.extend(page.items.iter().map(|info| info.head.seq));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(newest, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(kit.core.list(&Filter::default(), None, 8).next, None, "the last page is told");
    kit.call(|core, _| core.remove(&these(&["failed"])));
    let select = Filter { states: vec![State::Ready, State::Running], ..Filter::default() };
    let page = kit.core.list(&select, None, 1);
    assert_eq!((page.items[0].id, page.next), (id("ready"), Some(6)));
}

#[test]
fn ended_tasks_are_listed_in_the_order_of_their_end() {
    let mut kit = Kit::of(["a", "b", "c"].map(task).to_vec());
    let session = kit.session();
    let leases = kit.claim(&session, 3);
    for lease in leases.iter().rev() {
        kit.advance(SECOND);
        kit.finish(lease, succeeded());
    }
    let start = (Timestamp::from_millis(0), TaskId::from_bytes([0; 16]));
    let page = kit.core.ended(start, 2);
    assert_eq!(page.iter().map(|info| info.id).collect::<Vec<_>>(), ids(&["c", "b"]));
    let after = (page[1].head.finished.unwrap(), page[1].id);
    let page = kit.core.ended(after, 2);
    assert_eq!(page.iter().map(|info| info.id).collect::<Vec<_>>(), ids(&["a"]));
}
