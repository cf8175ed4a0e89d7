//! A3. An end is committed once, by the token that is current, with all that follows from it.

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Kind, Payload, State, Stored, TaskResult, Token, Value};
use omniq_store::{End, Finished, How, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::{
    Kit, LEASE, TICK, WHILE, again, bytes_of, called_off, error, failure, release, success,
};

/// Every way an attempt can end, and where a task that nobody called off stands then.
fn ends() -> Vec<(How, State)> {
    vec![
        (success(b"15"), State::Succeeded),
        (failure(), State::Failed),
        (called_off(), State::Cancelled),
        (again(WHILE), State::Scheduled),
        (again(Duration::ZERO), State::Ready),
        (release(WHILE), State::Scheduled),
        (release(Duration::ZERO), State::Ready),
    ]
}

pub(crate) async fn each_end_leads_where_it_should(kit: &Kit) {
    let session = kit.session().await;
    for (how, expected) in ends() {
        let id = kit.enqueue_with(|task| task.priority = omniq_model::Priority::MAX).await;
        let lease = kit.claim_one(&session).await;
        assert_eq!(kit.finish(&session, &lease, how).await, Finished::Applied(expected));
        let head = kit.head(id).await;
        assert_eq!((head.state, head.lease), (expected, None));
        assert_eq!(head.finished, expected.is_terminal().then(|| kit.now()));
        kit.cancel(&[id]).await; // out of the way of the next
    }
}

pub(crate) async fn the_result_is_kept_as_it_was_given(kit: &Kit) {
    let session = kit.session().await;
    let token = Token { fence: 1, nonce: 9 };
    let mut inline = TaskResult::success(Payload::cbor([0x0f]));
    inline.usage.fuel = 1234;
    inline.usage.engine = "wasmtime 48".into();
    inline.stderr = "a warning".into();
    inline.unknown.insert(99, "from the future".into());
    let stored = Stored { token, size: 1 << 40, unknown: Default::default() };
    let stored = TaskResult { value: Some(Value::Stored(stored)), ..TaskResult::default() };
    for result in [inline, stored] {
        let id = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        kit.finish(&session, &lease, How::Succeeded(result.clone().into())).await;
        let head = kit.head(id).await;
        assert_eq!((head.result, head.error), (Some(result), None));
    }
}

pub(crate) async fn a_failure_keeps_its_cause(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.fail_one(&session).await;
    let head = kit.head(id).await;
    assert_eq!(head.error, Some(error("it trapped")));
    assert_eq!(head.result.unwrap().error, Some(error("it trapped")));
    assert_eq!(head.attempt, 1);
}

pub(crate) async fn the_same_end_again_was_applied_before(kit: &Kit) {
    let session = kit.session().await;
    for (how, expected) in ends() {
        let id = kit.enqueue_with(|task| task.priority = omniq_model::Priority::MAX).await;
        let lease = kit.claim_one(&session).await;
        assert_eq!(kit.finish(&session, &lease, how.clone()).await, Finished::Applied(expected));
        let before = kit.head(id).await;
        let again = kit.finish(&session, &lease, how).await;
        assert_eq!(again, Finished::AppliedBefore(expected));
        assert_eq!(kit.head(id).await, before, "nothing happens twice");
        kit.cancel(&[id]).await;
    }
}

pub(crate) async fn a_lost_answer_is_repeated_without_harm(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let session = kit.session().await;
    for (how, expected) in ends() {
        let id = kit.enqueue_with(|task| task.priority = omniq_model::Priority::MAX).await;
        let lease = kit.claim_one(&session).await;
        let ends = vec![End { id, token: lease.token, how }];
        faulty.lose_answer("finish");
        faulty.finish(&session, ends.clone()).await.unwrap_err();
        let again = faulty.finish(&session, ends).await.unwrap();
        assert_eq!(again, [Finished::AppliedBefore(expected)]);
        kit.cancel(&[id]).await;
    }
}

pub(crate) async fn the_first_end_by_a_token_stands(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, success(b"first")).await;
    let second = kit.finish(&session, &lease, success(b"second")).await;
    assert_eq!(second, Finished::AppliedBefore(State::Succeeded));
    assert_eq!(kit.finish(&session, &lease, failure()).await, second);
    assert_eq!(bytes_of(&kit.head(id).await), b"first");
}

/// A worker that outlived its lease must not overwrite the attempt that replaced it.
pub(crate) async fn a_stale_token_changes_nothing(kit: &Kit) {
    let slow = kit.session().await;
    let id = kit.enqueue_plain().await;
    let old = kit.claim_one(&slow).await;
    kit.advance(LEASE + TICK);
    assert_eq!(kit.reclaim().await, [id]);
    for (how, _) in ends() {
        assert_eq!(kit.finish(&slow, &old, how).await, Finished::Stale, "it is nobody's now");
    }
    let fresh = kit.session().await;
    let new = kit.claim_one(&fresh).await;
    assert!(old.token.fence < new.token.fence);
    for (how, _) in ends() {
        assert_eq!(kit.finish(&slow, &old, how).await, Finished::Stale, "it is somebody else's");
    }
    let finished = kit.finish(&fresh, &new, success(b"second run")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
    assert_eq!(kit.finish(&slow, &old, failure()).await, Finished::Stale, "it is over");
    assert_eq!(bytes_of(&kit.head(id).await), b"second run");
}

pub(crate) async fn a_token_counts_as_a_whole(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let waiting = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    let Token { fence, nonce } = lease.token;
    for (id, token) in [
        (id, Token { fence, nonce: nonce ^ 1 }),
        (id, Token { fence: fence + 1, nonce }),
        (id, Token { fence: 0, nonce }),
        (id, Token { fence: 0, nonce: 0 }),
        (waiting, lease.token),
        (waiting, Token { fence: 0, nonce: 0 }),
        (kit.task().id, lease.token),
    ] {
        let finished = kit.finish_token(&session, id, token, success(b"forged")).await;
        assert_eq!(finished, Finished::Stale, "{token:?}");
    }
    assert_eq!(kit.states(&[id, waiting]).await, [State::Running, State::Ready]);
}

pub(crate) async fn a_batch_answers_item_by_item(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..3 {
        kit.enqueue_plain().await;
    }
    let leases = kit.claim(&session, 3).await;
    let end = |index: usize, how| End { id: leases[index].id, token: leases[index].token, how };
    let mut stale = end(1, failure());
    stale.token.nonce ^= 1;
    let ends = vec![
        end(2, again(WHILE)),
        stale,
        end(0, success(b"0")),
        end(0, success(b"0 again")),
        end(1, failure()),
    ];
    let expected = [
        Finished::Applied(State::Scheduled),
        Finished::Stale,
        Finished::Applied(State::Succeeded),
        Finished::AppliedBefore(State::Succeeded),
        Finished::Applied(State::Failed),
    ];
    assert_eq!(kit.store.finish(&session, ends).await.unwrap(), expected);
    assert_eq!(bytes_of(&kit.head(leases[0].id).await), b"0");
    assert_eq!(kit.store.finish(&session, Vec::new()).await.unwrap(), []);
}

pub(crate) async fn a_retry_waits_and_keeps_its_error(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    let how = How::Retry { after: WHILE, error: error("no luck") };
    kit.finish(&session, &lease, how).await;
    let head = kit.head(id).await;
    assert_eq!((head.state, head.attempt), (State::Scheduled, 1));
    assert_eq!(head.run_at, Some(kit.now() + WHILE));
    assert_eq!(head.error, Some(error("no luck")));
    assert!(kit.claim(&session, 1).await.is_empty());
    kit.advance(WHILE);
    assert_eq!(kit.store.promote(9).await.unwrap().promoted, 1);
    let lease = kit.claim_one(&session).await;
    assert_eq!((lease.attempt, lease.token.fence), (2, 2));
    assert_eq!(kit.head(id).await.error, Some(error("no luck")), "until there is another");
    kit.finish(&session, &lease, success(b"luck")).await;
    assert_eq!(kit.head(id).await.error, None);
}

pub(crate) async fn a_release_refunds_the_attempt_and_burns_the_fence(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    let how = How::Release { after: WHILE, error: Some(error("no module yet")) };
    assert_eq!(kit.finish(&session, &lease, how).await, Finished::Applied(State::Scheduled));
    let head = kit.head(id).await;
    assert_eq!((head.attempt, head.crashes, head.fence), (0, 0, 1));
    assert_eq!(head.run_at, Some(kit.now() + WHILE));
    assert_eq!(head.error, Some(error("no module yet")));
    kit.advance(WHILE);
    kit.store.promote(9).await.unwrap();
    let lease = kit.claim_one(&session).await;
    assert_eq!((lease.attempt, lease.token.fence), (1, 2));
}

pub(crate) async fn what_was_called_off_is_not_tried_again(kit: &Kit) {
    let session = kit.session().await;
    for how in [again(WHILE), again(Duration::ZERO), release(WHILE), called_off()] {
        let id = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        kit.cancel(&[id]).await;
        assert_eq!(kit.finish(&session, &lease, how).await, Finished::Applied(State::Cancelled));
        assert_eq!(kit.end_kind(id).await, Some(Kind::Cancelled));
    }
    for (how, expected) in [(success(b"faster"), State::Succeeded), (failure(), State::Failed)] {
        let id = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        kit.cancel(&[id]).await;
        let finished = kit.finish(&session, &lease, how).await;
        assert_eq!(finished, Finished::Applied(expected), "the end was faster");
    }
}

pub(crate) async fn a_dead_session_may_end_what_nobody_took_from_it(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..2 {
        kit.enqueue_plain().await;
    }
    let leases = kit.claim(&session, 2).await;
    kit.advance(LEASE * 10);
    let finished = kit.finish(&session, &leases[0], success(b"late")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
    assert_eq!(kit.reclaim().await, [leases[1].id]);
    assert_eq!(kit.finish(&session, &leases[1], success(b"late")).await, Finished::Stale);
}

pub(crate) async fn a_token_is_over_with_the_next_claim(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    let first = kit.claim_one(&session).await;
    kit.finish(&session, &first, again(Duration::ZERO)).await;
    let repeated = kit.finish(&session, &first, again(Duration::ZERO)).await;
    assert_eq!(repeated, Finished::AppliedBefore(State::Ready));
    let second = kit.claim_one(&session).await;
    let late = kit.finish(&session, &first, again(Duration::ZERO)).await;
    assert_eq!(late, Finished::Stale);
    let finished = kit.finish(&session, &second, success(b"2")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
    assert_eq!(kit.finish(&session, &first, success(b"1")).await, Finished::Stale);
}

pub(crate) async fn two_ends_at_once_commit_one(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..20 {
        let id = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        let race = |bytes: &'static [u8]| {
            let kit = kit.clone();
            let token = lease.token;
            tokio::spawn(async move {
                (bytes, kit.finish_token(&session, id, token, success(bytes)).await)
            })
        };
        let racers = [race(b"left"), race(b"right")];
        let mut winners = Vec::new();
        for racer in racers {
            let (bytes, finished) = racer.await.unwrap();
            match finished {
                Finished::Applied(State::Succeeded) => winners.push(bytes),
                other => assert_eq!(other, Finished::AppliedBefore(State::Succeeded)),
            }
        }
        assert_eq!(winners.len(), 1, "exactly one is committed");
        assert_eq!(bytes_of(&kit.head(id).await), winners[0]);
    }
}

pub(crate) async fn an_end_survives_reopening(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, success(b"for good")).await;
    let before = kit.head(id).await;
    let kit = kit.reopen().await;
    assert_eq!(kit.head(id).await, before);
    let again = kit.finish(&session, &lease, success(b"for good")).await;
    assert_eq!(again, Finished::AppliedBefore(State::Succeeded), "its token is known still");
}
