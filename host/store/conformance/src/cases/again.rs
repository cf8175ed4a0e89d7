//! Retry by hand: what has ended without success gets a second life.

use std::sync::Arc;

use omniq_model::State;
use omniq_store::{Filter, Select, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::{Kit, TICK, WHILE, again, select};

pub(crate) async fn whatever_did_not_succeed_is_ready_again(kit: &Kit) {
    let session = kit.session().await;
    let failed = kit.enqueue_plain().await;
    kit.fail_one(&session).await;
    let cancelled = kit.enqueue_plain().await;
    kit.cancel(&[cancelled]).await;
    let expired = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    kit.advance(WHILE);
    kit.store.expire(9).await.unwrap();
    let ids = [failed, cancelled, expired];
    let outcome = kit.retry(&ids).await;
    let moved: Vec<_> =
        outcome.moved.iter().map(|moved| (moved.id, moved.from, moved.to)).collect();
    let ready = State::Ready;
    let expected = [
        (failed, State::Failed, ready),
        (cancelled, State::Cancelled, ready),
        (expired, State::Expired, ready),
    ];
    assert_eq!(moved, expected);
    for id in ids {
        let head = kit.head(id).await;
        assert_eq!((head.state, head.finished, head.result), (ready, None, None));
    }
    assert_eq!(kit.claim_ids(&session, 9).await, ids, "in their old places");
}

pub(crate) async fn others_are_skipped(kit: &Kit) {
    let session = kit.session().await;
    let done = kit.enqueue_plain().await;
    kit.run_one(&session).await;
    let running = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    let ready = kit.enqueue_plain().await;
    let outcome = kit.retry(&[done, running, ready]).await;
    let skipped = vec![(done, State::Succeeded), (running, State::Running), (ready, State::Ready)];
    assert_eq!((outcome.moved.len(), outcome.skipped), (0, skipped));
}

pub(crate) async fn budgets_are_fresh_and_the_fence_goes_on(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, again(std::time::Duration::ZERO)).await;
    kit.fail_one(&session).await;
    assert_eq!(kit.head(id).await.attempt, 2);
    kit.retry(&[id]).await;
    let head = kit.head(id).await;
    assert_eq!((head.attempt, head.crashes, head.fence), (0, 0, 2));
    let lease = kit.claim_one(&session).await;
    assert_eq!((lease.attempt, lease.token.fence), (1, 3));
}

pub(crate) async fn the_time_to_live_counts_anew(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    kit.advance(WHILE);
    kit.store.expire(9).await.unwrap();
    kit.retry(&[id]).await;
    kit.advance(WHILE - TICK);
    assert!(kit.store.expire(9).await.unwrap().is_empty());
    kit.advance(TICK);
    assert!(kit.claim(&session, 1).await.is_empty());
    assert_eq!(kit.state(id).await, State::Expired);
}

pub(crate) async fn a_bulk_retries_the_dead_letters_and_ends(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..5 {
        kit.enqueue_plain().await;
    }
    for _ in 0..4 {
        kit.fail_one(&session).await;
    }
    let filter = Filter { states: vec![State::Failed], ..Filter::default() };
    let bulk = Select { filter, max: 3 };
    for expected in [3, 1, 0] {
        assert_eq!(kit.store.retry(&bulk).await.unwrap().moved.len(), expected);
    }
    assert_eq!(kit.counts().await, [(State::Ready, 5)].into());
}

pub(crate) async fn a_lost_answer_of_a_retry_retries_once(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let id = kit.enqueue_plain().await;
    kit.fail_one(&kit.session().await).await;
    faulty.lose_answer("retry");
    faulty.retry(&select(&[id])).await.unwrap_err();
    let again = faulty.retry(&select(&[id])).await.unwrap();
    assert_eq!((again.moved.len(), again.skipped), (0, vec![(id, State::Ready)]));
}

pub(crate) async fn a_second_life_ends_like_a_first(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.fail_one(&session).await;
    kit.retry(&[id]).await;
    assert_eq!(kit.run_one(&session).await, id);
    let head = kit.head(id).await;
    assert_eq!((head.state, head.error), (State::Succeeded, None));
}
