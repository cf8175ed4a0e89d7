use omniq_model::{Priority, Span};

use super::*;

fn urgent(name: &str, priority: i16) -> Task {
    with(name, |task| task.priority = Priority::new(priority).unwrap())
}

#[test]
fn the_most_urgent_comes_first_and_among_equals_the_oldest() {
    let tasks = vec![
        urgent("a", 0),
        urgent("b", -9),
        urgent("c", 9),
        urgent("d", 0),
        urgent("e", 1),
        urgent("f", 9),
    ];
    let mut kit = Kit::of(tasks);
    let session = kit.session();
    assert_eq!(claimed(&kit.claim(&session, 2)), ids(&["c", "f"]));
    assert_eq!(claimed(&kit.claim(&session, 10)), ids(&["e", "a", "d", "b"]));
    assert!(kit.claim(&session, 10).is_empty());
}

#[test]
fn a_task_that_is_ready_again_keeps_its_place() {
    let mut kit = Kit::of(vec![task("a"), task("b"), task("c")]);
    let session = kit.session();
    let leases = kit.claim(&session, 2);
    kit.finish(&leases[1], release(Duration::ZERO));
    kit.finish(&leases[0], retry(Duration::ZERO));
    assert_eq!(claimed(&kit.claim(&session, 3)), ids(&["a", "b", "c"]));
}

#[test]
fn each_claim_gives_a_new_token_and_counts_an_attempt() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    for attempt in 1..=3 {
        kit.advance(SECOND);
        let lease = kit.claim_one(&session);
        assert_eq!((lease.attempt, lease.token.fence), (attempt, u64::from(attempt)));
        assert_eq!(lease.task.as_deref(), Ok(&task("t")));
        let head = kit.head("t");
        assert_eq!(head.lease, Some((session.id, lease.token)));
        assert_eq!((head.state, head.started), (State::Running, Some(kit.now)));
        assert_eq!(head.error.is_some(), attempt > 1, "the latest error is kept");
        kit.finish(&lease, retry(Duration::ZERO));
        assert_eq!(kit.head("t").lease, None);
    }
}

#[test]
fn wants_are_served_in_turn_each_with_its_nonce() {
    let of = |name: &str, queue: &str| with(name, |task| task.lane = lane(queue));
    let mut kit = Kit::of(vec![of("a", "x"), of("b", "y"), of("c", "x"), of("d", "y")]);
    let session = kit.session();
    let want = |queue: &str, max, nonce| Want::new(lane(queue), max, nonce);
    let wants = [want("y", 1, 70), want("nowhere", 9, 71), want("x", 0, 72), want("x", 9, 73)];
    let leases = kit.call(|core, now| core.claim(now, &session, &wants));
    assert_eq!(claimed(&leases), ids(&["b", "a", "c"]));
    let nonces: Vec<_> = leases.iter().map(|lease| lease.token.nonce).collect();
    assert_eq!(nonces, [70, 73, 73]);
}

#[test]
fn a_dead_session_gets_nothing() {
    let mut kit = Kit::of(vec![task("t")]);
    let unknown = Session { id: SessionId::new(99), lease: LEASE };
    let closed = kit.session();
    kit.call(|core, now| core.close_session(now, &closed));
    let session = kit.session();
    kit.advance(LEASE + Duration::from_millis(1));
    for dead in [&unknown, &closed, &session] {
        assert!(kit.claim(dead, 1).is_empty());
    }
    assert_eq!(kit.head("t").fence, 0);
}

#[test]
fn a_session_lives_at_the_last_instant_of_its_lease() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    kit.advance(LEASE);
    assert_eq!(kit.claim(&session, 1).len(), 1);
}

#[test]
fn a_paused_lane_gives_nothing_until_it_is_let_go() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    kit.call(|core, _| core.pause(&Lane::default(), true));
    assert!(kit.claim(&session, 1).is_empty());
    kit.core.take_changed();
    kit.call(|core, _| core.pause(&Lane::default(), false));
    assert!(kit.core.take_changed().work);
    assert_eq!(kit.claim(&session, 1).len(), 1);
}

#[test]
fn a_lane_may_be_paused_before_it_has_a_task() {
    let mut kit = Kit::new();
    kit.call(|core, _| core.pause(&lane("x"), true));
    kit.enqueue(vec![with("t", |task| task.lane = lane("x"))]);
    assert!(kit.core.ready_lanes(None, 9).is_empty());
    let session = kit.session();
    assert!(kit.claim_from(&session, lane("x"), 1).is_empty());
    kit.call(|core, _| core.pause(&lane("x"), false));
    assert_eq!(kit.core.ready_lanes(None, 9), [lane("x")]);
}

#[test]
fn what_is_past_its_time_to_live_expires_on_the_way() {
    let late = |name: &str| with(name, |task| task.ttl = Some(Span::from_secs(1)));
    let mut kit = Kit::of(vec![late("a"), task("b"), late("c"), task("d")]);
    let session = kit.session();
    kit.advance(SECOND);
    assert_eq!(claimed(&kit.claim(&session, 2)), ids(&["b", "d"]));
    for name in ["a", "c"] {
        assert_eq!(kit.state(name), State::Expired);
        assert_eq!(kit.kind(name), Some(Kind::Expired));
    }
    assert!(kit.core.take_changed().ends);
}

#[test]
fn lanes_with_work_are_listed_by_name_page_by_page() {
    let of = |name: &str, queue: &str| with(name, |task| task.lane = lane(queue));
    let mut kit =
        Kit::of(vec![of("1", "c"), of("2", "a"), of("3", "b"), of("4", "d"), of("5", "a")]);
    let session = kit.session();
    kit.call(|core, _| core.pause(&lane("b"), true));
    kit.claim_from(&session, lane("d"), 1);
    assert_eq!(kit.core.ready_lanes(None, 1), [lane("a")]);
    assert_eq!(kit.core.ready_lanes(Some(&lane("a")), 9), [lane("c")]);
    assert!(kit.core.ready_lanes(Some(&lane("c")), 9).is_empty());
}
