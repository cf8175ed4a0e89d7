//! A1. A task is accepted whole or not at all, once per id, and an `Ok` is a promise.

use std::sync::Arc;

use omniq_model::record::Unknown;
use omniq_model::{Payload, State};
use omniq_store::{Enqueued, Refusal, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::Kit;

pub(crate) async fn what_was_asked_for_is_there_and_ready(kit: &Kit) {
    let task = kit.task_with(|task| {
        task.labels.insert("customer".into(), "Zoë & søn".into());
        task.args = Payload::raw(*b"\x00\xff bytes of any kind");
    });
    let id = kit.enqueue(task.clone()).await;
    let info = kit.info(id).await;
    assert_eq!(*info.task.unwrap(), task);
    assert_eq!(info.lane, task.lane);
    assert_eq!(info.head.state, State::Ready);
    assert_eq!(info.head.created, kit.now());
    assert_eq!((info.head.attempt, info.head.crashes, info.head.fence), (0, 0, 0));
    assert_eq!((info.head.error, info.head.result), (None, None));
}

pub(crate) async fn the_same_task_again_is_a_duplicate_wherever_it_stands(kit: &Kit) {
    let task = kit.task();
    let id = kit.enqueue(task.clone()).await;
    let session = kit.session().await;
    let duplicate = |state| Enqueued::Duplicate { id, state };
    assert_eq!(kit.offer(task.clone()).await, duplicate(State::Ready));
    let lease = kit.claim_one(&session).await;
    assert_eq!(kit.offer(task.clone()).await, duplicate(State::Running));
    kit.finish(&session, &lease, crate::kit::success(b"once")).await;
    assert_eq!(kit.offer(task).await, duplicate(State::Succeeded));
    assert_eq!(kit.dump().await.len(), 1);
}

pub(crate) async fn another_task_under_the_same_id_is_a_conflict(kit: &Kit) {
    let task = kit.task();
    let id = kit.enqueue(task.clone()).await;
    let mut other = task.clone();
    other.args = Payload::cbor([0xa1, 0x61, 0x61, 1]);
    assert_eq!(kit.offer(other.clone()).await, Enqueued::Conflict);
    assert_eq!(*kit.info(id).await.task.unwrap(), task, "the first one stays as it is");
    kit.run_one(&kit.session().await).await;
    assert_eq!(kit.offer(other).await, Enqueued::Conflict, "also when it has ended");
}

pub(crate) async fn a_batch_answers_item_by_item_in_its_order(kit: &Kit) {
    let (first, second) = (kit.task(), kit.task());
    let mut conflict = first.clone();
    conflict.function = "other".into();
    let nobody = kit.task().id;
    let orphan = kit.task_with(|task| task.after = vec![nobody]);
    let answers = kit
        .store
        .enqueue(vec![first.clone(), conflict, first.clone(), orphan.clone(), second.clone()])
        .await
        .unwrap();
    let expected = [
        Enqueued::Created,
        Enqueued::Conflict,
        Enqueued::Duplicate { id: first.id, state: State::Ready },
        Enqueued::Refused(Refusal::UnknownParent(nobody)),
        Enqueued::Created,
    ];
    assert_eq!(answers, expected);
    assert!(kit.find(orphan.id).await.is_none(), "what was refused is not there");
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, [first.id, second.id]);
}

pub(crate) async fn an_empty_batch_is_answered_by_nothing(kit: &Kit) {
    assert_eq!(kit.store.enqueue(Vec::new()).await.unwrap(), []);
    assert!(kit.dump().await.is_empty());
}

pub(crate) async fn the_order_of_arrival_is_that_of_the_batch_whatever_the_ids(kit: &Kit) {
    let mut tasks: Vec<_> = (0..20).map(|_| kit.task()).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.id)); // against the order that ids would give
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    kit.store.enqueue(tasks).await.unwrap();
    assert_eq!(kit.claim_ids(&kit.session().await, 20).await, ids);
    let mut listed: Vec<_> = kit.dump().await.iter().map(|info| info.id).collect();
    listed.reverse();
    assert_eq!(listed, ids);
}

pub(crate) async fn fields_of_a_newer_version_are_kept(kit: &Kit) {
    let task = kit.task_with(|task| {
        task.unknown = Unknown::from([(200, "from the future".into())]);
    });
    let id = kit.enqueue(task.clone()).await;
    assert_eq!(*kit.info(id).await.task.unwrap(), task);
    let lease = kit.claim_one(&kit.session().await).await;
    assert_eq!(*lease.task.unwrap(), task);
}

pub(crate) async fn a_repeat_after_a_lost_answer_makes_nothing_twice(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let task = kit.task();
    faulty.lose_answer("enqueue");
    faulty.enqueue(vec![task.clone()]).await.unwrap_err();
    let again = faulty.enqueue(vec![task.clone()]).await.unwrap();
    assert_eq!(again, [Enqueued::Duplicate { id: task.id, state: State::Ready }]);
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, [task.id]);
}

pub(crate) async fn what_was_accepted_survives_reopening(kit: &Kit) {
    let tasks: Vec<_> = (0..50).map(|_| kit.task()).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    kit.store.enqueue(tasks.clone()).await.unwrap();
    let before = kit.dump().await;
    let kit = kit.reopen().await;
    assert_eq!(format!("{:?}", kit.dump().await), format!("{before:?}"));
    let late = kit.enqueue_plain().await;
    let expected: Vec<_> = ids.into_iter().chain([late]).collect();
    assert_eq!(kit.claim_ids(&kit.session().await, 99).await, expected, "the order goes on");
}

pub(crate) async fn many_producers_at_once_lose_nothing(kit: &Kit) {
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let kit = kit.clone();
        producers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..20 {
                ids.push(kit.enqueue_plain().await);
            }
            ids
        });
    }
    let mut expected: Vec<_> = producers.join_all().await.concat();
    let mut claimed = kit.claim_ids(&kit.session().await, 1000).await;
    expected.sort_unstable();
    claimed.sort_unstable();
    assert_eq!(claimed, expected);
}
