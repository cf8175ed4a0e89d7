use omniq_model::Span;

use super::*;

#[test]
fn an_end_is_committed_once_and_a_repeat_is_told_so() {
    let check = |how: How, state: State| {
        let mut kit = Kit::of(vec![task("t")]);
        let session = kit.session();
        let lease = kit.claim_one(&session);
        kit.core.take_changed();
        assert_eq!(kit.finish(&lease, how.clone()), Finished::Applied(state));
        let changed = kit.core.take_changed();
        assert_eq!((changed.ends, changed.work), (state.is_terminal(), !state.is_terminal()));
        let before = kit.head("t");
        assert_eq!(kit.finish(&lease, how), Finished::AppliedBefore(state));
        assert_eq!(kit.finish(&lease, succeeded()), Finished::AppliedBefore(state));
        assert_eq!(kit.head("t"), before);
        assert_eq!(before.finished.is_some(), state.is_terminal());
        assert_eq!(before.lease, None);
    };
    check(succeeded(), State::Succeeded);
    check(failed(), State::Failed);
    check(cancelled(), State::Cancelled);
    check(retry(SECOND), State::Scheduled);
    check(retry(Duration::ZERO), State::Ready);
    check(release(SECOND), State::Scheduled);
    check(release(Duration::ZERO), State::Ready);
}

#[test]
fn the_result_and_the_error_are_kept() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.finish(&lease, retry(Duration::ZERO));
    assert_eq!(kit.head("t").error, Some(error()));
    let lease = kit.claim_one(&session);
    kit.finish(&lease, succeeded());
    let head = kit.head("t");
    assert_eq!((head.error, head.attempt), (None, 2));
    assert_eq!(head.result, Some(TaskResult::success(Payload::cbor([1]))));
}

#[test]
fn a_token_that_is_not_current_changes_nothing() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    let old = kit.claim_one(&session);
    kit.finish(&old, retry(Duration::ZERO));
    let new = kit.claim_one(&session);
    let Token { fence, nonce } = new.token;
    for token in [
        old.token,
        Token { fence, nonce: nonce + 1 },
        Token { fence: fence + 1, nonce },
        Token { fence: 0, nonce: 0 },
    ] {
        assert_eq!(kit.finish_as(new.id, token, succeeded()), Finished::Stale);
    }
    assert_eq!(kit.finish_as(id("nobody"), new.token, succeeded()), Finished::Stale);
    assert_eq!(kit.finish(&new, succeeded()), Finished::Applied(State::Succeeded));
}

#[test]
fn a_token_that_never_was_given_ends_nothing() {
    let mut kit = Kit::of(vec![task("t")]);
    let token = Token { fence: 0, nonce: 0 };
    assert_eq!(kit.finish_as(id("t"), token, succeeded()), Finished::Stale);
}

#[test]
fn a_dead_session_may_finish_what_nobody_took_away() {
    let mut kit = Kit::of(vec![task("a"), task("b")]);
    let session = kit.session();
    let leases = kit.claim(&session, 2);
    kit.advance(LEASE + SECOND);
    assert_eq!(kit.finish(&leases[0], succeeded()), Finished::Applied(State::Succeeded));
    kit.call(|core, now| core.reclaim(now, 10));
    assert_eq!(kit.finish(&leases[1], succeeded()), Finished::Stale);
    assert_eq!(kit.state("b"), State::Ready);
}

#[test]
fn a_release_costs_no_attempt_but_a_fence() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    for fence in 1..=3 {
        let lease = kit.claim_one(&session);
        assert_eq!((lease.attempt, lease.token.fence), (1, fence));
        let release = How::Release { after: Duration::ZERO, error: Some(error()) };
        kit.finish(&lease, release);
        assert_eq!((kit.head("t").attempt, kit.head("t").error), (0, Some(error())));
    }
}

#[test]
fn a_retry_waits_as_long_as_it_says() {
    let mut kit = Kit::of(vec![task("t")]);
    let session = kit.session();
    let lease = kit.claim_one(&session);
    kit.finish(&lease, retry(SECOND));
    assert_eq!(kit.head("t").run_at, Some(kit.now + SECOND));
    kit.advance(SECOND);
    kit.call(|core, now| core.promote(now, 1));
    assert_eq!(kit.finish(&lease, succeeded()), Finished::AppliedBefore(State::Ready));
    assert_eq!(kit.claim_one(&session).attempt, 2);
}

#[test]
fn what_was_called_off_is_not_tried_again_but_may_still_succeed() {
    let check = |how: How, state: State, kind: Option<Kind>| {
        let mut kit = Kit::of(vec![task("t")]);
        let session = kit.session();
        let lease = kit.claim_one(&session);
        kit.call(|core, now| core.cancel(now, &these(&["t"])));
        assert_eq!(kit.finish(&lease, how), Finished::Applied(state));
        assert_eq!(kit.kind("t"), kind);
    };
    check(retry(SECOND), State::Cancelled, Some(Kind::Cancelled));
    check(release(Duration::ZERO), State::Cancelled, Some(Kind::Cancelled));
    check(cancelled(), State::Cancelled, Some(Kind::Cancelled));
    check(failed(), State::Failed, Some(Kind::Trap));
    check(succeeded(), State::Succeeded, None);
}

#[test]
fn the_time_to_live_counts_again_only_when_no_attempt_does() {
    let check = |how: How, state: State| {
        let mut kit = Kit::of(vec![with("t", |task| task.ttl = Some(Span::from_secs(5)))]);
        let session = kit.session();
        let lease = kit.claim_one(&session);
        kit.finish(&lease, how);
        kit.advance(5 * SECOND);
        kit.call(|core, now| core.expire(now, 10));
        assert_eq!(kit.state("t"), state);
    };
    check(release(Duration::ZERO), State::Expired);
    check(release(9 * SECOND), State::Expired);
    check(retry(Duration::ZERO), State::Ready);
    check(retry(9 * SECOND), State::Scheduled);
}

#[test]
fn ended_tasks_that_are_large_come_in_several_answers() {
    let large =
        |number: u32| Task { args: Payload::cbor(vec![0; 3 << 20]), ..task(&number.to_string()) };
    let mut kit = Kit::of((0..20).map(large).collect());
    let session = kit.session();
    for lease in kit.claim(&session, 20) {
        kit.finish(&lease, succeeded());
    }
    let mut after = (Timestamp::from_millis(0), TaskId::from_bytes([0; 16]));
    let mut counts = Vec::new();
    loop {
        let page = kit.core.ended(after, 1000);
        let Some(last) = page.last() else { break };
        after = (last.head.finished.expect("it ended"), last.id);
        counts.push(page.len());
    }
    assert_eq!(counts, [5, 5, 5, 5]);
}
