//! Delay, promotion and the time to live.

use std::time::Duration;

use omniq_model::{Kind, State};
use omniq_store::Due;

use crate::kit::{Kit, LEASE, TICK, WHILE, again, release};

async fn promote(kit: &Kit) -> Due {
    kit.store.promote(100).await.unwrap()
}

pub(crate) async fn a_delayed_task_is_ready_at_its_instant(kit: &Kit) {
    let id = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let head = kit.head(id).await;
    assert_eq!((head.state, head.run_at), (State::Scheduled, Some(kit.now() + WHILE)));
    kit.advance(WHILE - TICK);
    assert_eq!(promote(kit).await, Due { promoted: 0, next: Some(TICK) });
    assert_eq!(kit.state(id).await, State::Scheduled);
    kit.advance(TICK);
    assert_eq!(promote(kit).await, Due { promoted: 1, next: None });
    assert_eq!(kit.state(id).await, State::Ready);
}

pub(crate) async fn an_instant_that_is_over_is_no_delay(kit: &Kit) {
    let now = kit.now();
    for run_at in [now - WHILE, now] {
        let id = kit.enqueue_with(|task| task.run_at = Some(run_at)).await;
        assert_eq!(kit.state(id).await, State::Ready);
    }
}

pub(crate) async fn the_later_of_delay_and_instant_counts(kit: &Kit) {
    let now = kit.now();
    for (delay, run_at) in [(1, 9), (9, 1)] {
        let id = kit
            .enqueue_with(|task| {
                task.delay = Duration::from_secs(delay).into();
                task.run_at = Some(now + Duration::from_secs(run_at));
            })
            .await;
        assert_eq!(kit.head(id).await.run_at, Some(now + Duration::from_secs(9)));
    }
}

pub(crate) async fn promotion_is_bounded_and_says_when_to_come_again(kit: &Kit) {
    for after in [1, 2, 3, 60] {
        kit.enqueue_with(|task| task.delay = Duration::from_secs(after).into()).await;
    }
    assert_eq!(promote(kit).await, Due { promoted: 0, next: Some(Duration::from_secs(1)) });
    kit.advance(Duration::from_secs(10));
    let due = kit.store.promote(2).await.unwrap();
    assert_eq!(due, Due { promoted: 2, next: Some(Duration::ZERO) });
    let due = kit.store.promote(2).await.unwrap();
    assert_eq!(due, Due { promoted: 1, next: Some(Duration::from_secs(50)) });
    assert_eq!(kit.counts().await, [(State::Scheduled, 1), (State::Ready, 3)].into());
}

pub(crate) async fn promoted_tasks_keep_their_place(kit: &Kit) {
    let late = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let early = kit.enqueue_with(|task| task.delay = TICK.into()).await;
    let plain = kit.enqueue_plain().await;
    kit.advance(WHILE);
    promote(kit).await;
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, [late, early, plain]);
}

pub(crate) async fn many_promoters_promote_each_once(kit: &Kit) {
    let tasks = (0..40).map(|_| kit.task_with(|task| task.delay = TICK.into())).collect();
    kit.store.enqueue(tasks).await.unwrap();
    kit.advance(TICK);
    let mut promoters = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let kit = kit.clone();
        promoters.spawn(async move { kit.store.promote(10).await.unwrap().promoted });
    }
    assert_eq!(promoters.join_all().await.iter().sum::<usize>(), 40);
    assert_eq!(kit.claim(&kit.session().await, 100).await.len(), 40);
}

pub(crate) async fn what_does_not_start_in_time_expires(kit: &Kit) {
    let ttl = Some(WHILE.into());
    let ready = kit.enqueue_with(|task| task.ttl = ttl).await;
    let scheduled = kit
        .enqueue_with(|task| {
            task.ttl = ttl;
            task.delay = LEASE.into();
        })
        .await;
    let parent = kit.enqueue_plain().await;
    let blocked = kit
        .enqueue_with(|task| {
            task.ttl = ttl;
            task.after = vec![parent];
        })
        .await;
    kit.advance(WHILE - TICK);
    assert!(kit.store.expire(9).await.unwrap().is_empty());
    kit.advance(TICK);
    let mut moved: Vec<_> =
        kit.store.expire(9).await.unwrap().iter().map(|moved| (moved.id, moved.from)).collect();
    let mut expected =
        vec![(ready, State::Ready), (scheduled, State::Scheduled), (blocked, State::Blocked)];
    moved.sort_unstable();
    expected.sort_unstable();
    assert_eq!(moved, expected);
    let ids = [ready, scheduled, blocked, parent];
    let gone = State::Expired;
    assert_eq!(kit.states(&ids).await, [gone, gone, gone, State::Ready]);
    assert_eq!(kit.end_kind(ready).await, Some(Kind::Expired));
}

pub(crate) async fn what_has_started_does_not_expire(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    let lease = kit.claim_one(&session).await;
    kit.advance(WHILE * 2);
    assert!(kit.store.expire(9).await.unwrap().is_empty());
    kit.finish(&session, &lease, again(Duration::ZERO)).await;
    assert!(kit.store.expire(9).await.unwrap().is_empty(), "nor between its attempts");
    assert_eq!(kit.claim_ids(&session, 9).await, [id]);
}

pub(crate) async fn a_start_that_does_not_count_is_no_start(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, release(Duration::ZERO)).await;
    kit.advance(WHILE);
    assert_eq!(kit.store.expire(9).await.unwrap().len(), 1);
    assert_eq!(kit.state(id).await, State::Expired);
}

pub(crate) async fn expiry_is_bounded(kit: &Kit) {
    for _ in 0..5 {
        kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    }
    kit.advance(WHILE);
    for expected in [2, 2, 1, 0] {
        assert_eq!(kit.store.expire(2).await.unwrap().len(), expected);
    }
}
