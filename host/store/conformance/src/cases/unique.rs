//! Unique keys: at most one task of a tenant holds a key.

use std::time::Duration;

use omniq_model::{Scope, Span, State, Task, TaskId, Unique};
use omniq_store::Enqueued;

use crate::kit::{Kit, LEASE, TICK, WHILE, again, lane, release};

fn with_key(kit: &Kit, scope: Scope) -> Task {
    kit.task_with(|task| {
        let window = if scope == Scope::Window { Span::from(WHILE) } else { Span::ZERO };
        task.unique =
            Some(Unique { key: "invoice 7".into(), scope, window, unknown: Default::default() });
    })
}

/// Offers a task with the key: `None` when it was free, else who holds it.
async fn holder(kit: &Kit, scope: Scope) -> Option<(TaskId, State)> {
    match kit.offer(with_key(kit, scope)).await {
        Enqueued::Created => None,
        Enqueued::Duplicate { id, state } => Some((id, state)),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_second_task_is_answered_with_the_first(kit: &Kit) {
    let first = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    let second = with_key(kit, Scope::UntilFinished);
    let answer = kit.offer(second.clone()).await;
    assert_eq!(answer, Enqueued::Duplicate { id: first, state: State::Ready });
    assert!(kit.find(second.id).await.is_none());
    assert_eq!(kit.dump().await.len(), 1);
}

pub(crate) async fn within_a_batch_the_first_gets_the_key(kit: &Kit) {
    let (first, second) =
        (with_key(kit, Scope::UntilFinished), with_key(kit, Scope::UntilFinished));
    let id = first.id;
    let answers = kit.store.enqueue(vec![first, second]).await.unwrap();
    let expected = [Enqueued::Created, Enqueued::Duplicate { id, state: State::Ready }];
    assert_eq!(answers, expected);
}

pub(crate) async fn the_same_task_is_a_duplicate_of_itself(kit: &Kit) {
    let session = kit.session().await;
    let task = with_key(kit, Scope::UntilFinished);
    let id = kit.enqueue(task.clone()).await;
    kit.run_one(&session).await;
    let second = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    let answer = kit.offer(task).await;
    assert_eq!(answer, Enqueued::Duplicate { id, state: State::Succeeded }, "before the key's");
    assert_eq!(kit.state(second).await, State::Ready);
}

pub(crate) async fn another_tenant_has_keys_of_its_own(kit: &Kit) {
    kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    let mut other = with_key(kit, Scope::UntilFinished);
    other.lane = lane("acme", "default");
    assert_eq!(kit.offer(other).await, Enqueued::Created);
    let mut same = with_key(kit, Scope::UntilFinished);
    same.lane = lane("default", "another-queue");
    assert!(matches!(kit.offer(same).await, Enqueued::Duplicate { .. }));
}

pub(crate) async fn until_finished_lasts_through_every_attempt(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    for how in [again(WHILE), release(WHILE)] {
        let lease = kit.claim_one(&session).await;
        assert_eq!(holder(kit, Scope::UntilFinished).await, Some((id, State::Running)));
        kit.finish(&session, &lease, how).await;
        assert_eq!(holder(kit, Scope::UntilFinished).await, Some((id, State::Scheduled)));
        kit.advance(WHILE);
        kit.store.promote(9).await.unwrap();
    }
    kit.run_one(&session).await;
    assert_eq!(holder(kit, Scope::UntilFinished).await, None);
}

pub(crate) async fn every_end_frees_the_key(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.fail_one(&session).await;
    let cancelled = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.cancel(&[cancelled]).await;
    let mut short = with_key(kit, Scope::UntilFinished);
    short.ttl = Some(WHILE.into());
    kit.enqueue(short).await;
    kit.advance(WHILE + TICK);
    kit.store.expire(9).await.unwrap();
    let parent = kit.enqueue_plain().await;
    let mut child = with_key(kit, Scope::UntilFinished);
    child.after = vec![parent];
    kit.enqueue(child).await;
    kit.cancel(&[parent]).await; // takes the child along
    assert_eq!(holder(kit, Scope::UntilFinished).await, None);
}

pub(crate) async fn until_started_ends_with_the_first_claim(kit: &Kit) {
    let session = kit.session().await;
    let first = kit.enqueue(with_key(kit, Scope::UntilStarted)).await;
    assert_eq!(holder(kit, Scope::UntilStarted).await, Some((first, State::Ready)));
    let lease = kit.claim_one(&session).await;
    let second = kit.enqueue(with_key(kit, Scope::UntilStarted)).await;
    kit.finish(&session, &lease, again(Duration::ZERO)).await;
    assert_eq!(kit.states(&[first, second]).await, [State::Ready; 2], "it is not taken back");
    assert_eq!(holder(kit, Scope::UntilStarted).await, Some((second, State::Ready)));
}

pub(crate) async fn until_started_ends_with_the_task_too(kit: &Kit) {
    let id = kit.enqueue(with_key(kit, Scope::UntilStarted)).await;
    kit.cancel(&[id]).await;
    assert_eq!(holder(kit, Scope::UntilStarted).await, None);
}

pub(crate) async fn a_window_lasts_its_time_however_the_task_fares(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue(with_key(kit, Scope::Window)).await;
    kit.run_one(&session).await;
    assert_eq!(holder(kit, Scope::Window).await, Some((id, State::Succeeded)));
    kit.advance(WHILE - TICK);
    assert_eq!(holder(kit, Scope::Window).await, Some((id, State::Succeeded)));
    kit.advance(TICK * 2);
    assert_eq!(holder(kit, Scope::Window).await, None);
}

pub(crate) async fn a_window_ends_also_under_a_live_task(kit: &Kit) {
    let first = kit.enqueue(with_key(kit, Scope::Window)).await;
    kit.advance(WHILE + TICK);
    let second = kit.enqueue(with_key(kit, Scope::Window)).await;
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, [first, second]);
}

pub(crate) async fn keys_of_different_scopes_are_the_same_keys(kit: &Kit) {
    let id = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    for scope in [Scope::UntilStarted, Scope::Window] {
        assert_eq!(holder(kit, scope).await, Some((id, State::Ready)));
    }
}

pub(crate) async fn a_reclaimed_task_holds_its_key(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    kit.reclaim().await;
    assert_eq!(holder(kit, Scope::UntilFinished).await, Some((id, State::Ready)));
}

pub(crate) async fn a_retry_by_hand_takes_the_key_again(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.fail_one(&session).await;
    assert_eq!(kit.retry(&[id]).await.moved.len(), 1);
    assert_eq!(holder(kit, Scope::UntilFinished).await, Some((id, State::Ready)));
}

pub(crate) async fn a_retry_by_hand_is_skipped_while_another_holds_the_key(kit: &Kit) {
    let session = kit.session().await;
    let first = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.fail_one(&session).await;
    let second = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    let outcome = kit.retry(&[first]).await;
    assert_eq!((outcome.moved.len(), outcome.skipped), (0, vec![(first, State::Failed)]));
    assert_eq!(kit.run_one(&session).await, second);
    assert_eq!(kit.retry(&[first]).await.moved.len(), 1);
}

pub(crate) async fn of_two_that_are_retried_at_once_one_gets_the_key(kit: &Kit) {
    let session = kit.session().await;
    let first = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.fail_one(&session).await;
    let second = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    kit.fail_one(&session).await;
    let outcome = kit.retry(&[first, second]).await;
    let moved: Vec<_> = outcome.moved.iter().map(|moved| moved.id).collect();
    assert_eq!((moved, outcome.skipped), (vec![first], vec![(second, State::Failed)]));
    assert_eq!(holder(kit, Scope::UntilFinished).await, Some((first, State::Ready)));
}

pub(crate) async fn of_many_at_once_one_gets_the_key(kit: &Kit) {
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let kit = kit.clone();
        producers.spawn(async move { kit.offer(with_key(&kit, Scope::UntilFinished)).await });
    }
    let answers = producers.join_all().await;
    let created = answers.iter().filter(|answer| **answer == Enqueued::Created).count();
    assert_eq!((created, kit.dump().await.len()), (1, 1));
}

pub(crate) async fn a_held_key_survives_reopening(kit: &Kit) {
    let id = kit.enqueue(with_key(kit, Scope::UntilFinished)).await;
    let kit = kit.reopen().await;
    assert_eq!(holder(&kit, Scope::UntilFinished).await, Some((id, State::Ready)));
}
