use super::*;
use crate::{Beat, Held};

fn beat(kit: &mut Kit, session: &Session, held: &[(TaskId, Token)]) -> Beat {
    kit.call(|core, now| core.heartbeat(now, session, Held::of(held)))
}

fn alive(matches: bool) -> Beat {
    Beat::Alive { matches, cancel: Vec::new() }
}

fn held(leases: &[Lease]) -> Vec<(TaskId, Token)> {
    leases.iter().map(|lease| (lease.id, lease.token)).collect()
}

#[test]
fn a_heartbeat_keeps_a_session_alive_and_never_revives_it() {
    let mut kit = Kit::new();
    let session = kit.session();
    for _ in 0..3 {
        kit.advance(LEASE);
        assert_eq!(beat(&mut kit, &session, &[]), alive(true));
    }
    kit.advance(LEASE + Duration::from_millis(1));
    assert_eq!(beat(&mut kit, &session, &[]), Beat::Dead);
    let again = kit.call(|core, now| core.open_session(now, session.id, LEASE));
    assert_eq!(beat(&mut kit, &again, &[]), Beat::Dead);
    kit.call(|core, now| core.reclaim(now, 1));
    assert_eq!(beat(&mut kit, &session, &[]), Beat::Dead);
}

#[test]
fn opening_a_living_session_again_keeps_it_alive() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.advance(LEASE);
    kit.call(|core, now| core.open_session(now, session.id, LEASE));
    kit.advance(LEASE);
    assert_eq!(beat(&mut kit, &session, &held(&[lease])), alive(true));
}

#[test]
fn a_heartbeat_notices_what_one_side_does_not_know() {
    let mut kit = Kit::of(vec![task("a"), task("b")]);
    let session = kit.session();
    let leases = held(&kit.claim(&session, 2));
    assert_eq!(beat(&mut kit, &session, &leases), alive(true));
    assert_eq!(beat(&mut kit, &session, &leases[..1]), alive(false));
    assert_eq!(beat(&mut kit, &session, &[]), alive(false));
    let (id, token) = leases[0];
    kit.finish_as(id, token, succeeded());
    assert_eq!(beat(&mut kit, &session, &leases), alive(false));
    assert_eq!(beat(&mut kit, &session, &leases[1..]), alive(true));
}

#[test]
fn reconcile_puts_back_exactly_what_was_lost() {
    let mut kit = Kit::of(vec![task("a"), task("b"), task("c")]);
    let session = kit.session();
    let leases = kit.claim(&session, 3);
    let known = held(&leases[1..2]);
    let moved = kit.call(|core, now| core.reconcile(now, &session, &known));
    let back = (State::Running, State::Ready);
    assert_eq!(moves(&moved), [(id("a"), back.0, back.1), (id("c"), back.0, back.1)]);
    let head = kit.head("a");
    assert_eq!((head.attempt, head.crashes, head.fence), (0, 0, 1));
    assert_eq!(kit.finish(&leases[0], succeeded()), Finished::Stale);
    assert!(kit.call(|core, now| core.reconcile(now, &session, &known)).is_empty());
    assert_eq!(beat(&mut kit, &session, &known), alive(true));
}

#[test]
fn reconcile_goes_by_the_token_not_by_the_task() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    let old = kit.claim_one(&session);
    kit.finish(&old, release(Duration::ZERO));
    kit.claim_one(&session);
    let moved = kit.call(|core, now| core.reconcile(now, &session, &held(&[old])));
    assert_eq!(moved.len(), 1);
}

#[test]
fn closing_a_session_puts_everything_back_at_once() {
    let mut kit = Kit::of(vec![task("a"), task("b"), task("c")]);
    let (session, other) = (kit.session(), kit.session());
    let leases = kit.claim(&session, 2);
    kit.claim(&other, 1);
    kit.call(|core, now| core.cancel(now, &these(&["b"])));
    let moved = kit.call(|core, now| core.close_session(now, &session));
    assert_eq!(
        moves(&moved),
        [(id("a"), State::Running, State::Ready), (id("b"), State::Running, State::Cancelled),]
    );
    assert_eq!(kit.state("c"), State::Running);
    assert_eq!(beat(&mut kit, &session, &[]), Beat::Dead);
    assert_eq!(kit.finish(&leases[0], succeeded()), Finished::Stale);
    assert!(kit.call(|core, now| core.close_session(now, &session)).is_empty());
}

#[test]
fn what_is_called_off_is_told_to_who_runs_it() {
    let mut kit = Kit::of(vec![task("a"), task("b")]);
    let session = kit.session();
    let leases = kit.claim(&session, 2);
    kit.core.take_changed();
    kit.call(|core, now| core.cancel(now, &these(&["b"])));
    assert!(kit.core.take_changed().work);
    let cancel = held(&leases[1..]);
    assert_eq!(kit.core.cancels(&session), cancel);
    let all = held(&leases);
    assert_eq!(beat(&mut kit, &session, &all), Beat::Alive { matches: true, cancel });
    kit.finish(&leases[1], cancelled());
    assert!(kit.core.cancels(&session).is_empty());
}

#[test]
fn a_store_that_was_put_back_has_no_leases_and_no_fence_twice() {
    let mut kit = Kit::of(vec![task("a"), task("b"), task("c"), task("d")]);
    let (session, other) = (kit.session(), kit.session());
    let leases = kit.claim(&session, 2);
    kit.finish(&leases[1], retry(SECOND));
    kit.claim(&other, 1);
    kit.call(|core, now| core.cancel(now, &these(&["c"])));
    let moved = kit.call(|core, now| core.restored(now));
    assert_eq!(
        moves(&moved),
        [(id("a"), State::Running, State::Ready), (id("c"), State::Running, State::Cancelled)]
    );
    for of in [&session, &other] {
        assert_eq!(beat(&mut kit, of, &[]), Beat::Dead);
    }
    for lease in &leases {
        assert_eq!(kit.finish(lease, succeeded()), Finished::Stale);
    }
    let fences = ["a", "b", "c", "d"].map(|name| kit.head(name).fence);
    assert_eq!(fences, [1 + crate::FENCE_STEP, 1 + crate::FENCE_STEP, 1, 0]);
    let session = kit.session();
    let fences: Vec<_> = kit.claim(&session, 4).iter().map(|lease| lease.token.fence).collect();
    assert_eq!(fences, [2 + crate::FENCE_STEP, 1]);
}
