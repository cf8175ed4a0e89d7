//! Damaged records, large values, many tasks: what is out of the ordinary and still must hold.

use omniq_model::{Kind, Payload, State};
use omniq_store::{End, Enqueued, Filter, Finished, Select};

use crate::kit::{Kit, LEASE, TICK, bytes_of, failure, success};

pub(crate) async fn a_damaged_task_is_leased_so_that_it_can_be_ended(kit: &Kit) {
    let session = kit.session().await;
    let bad = kit.enqueue_plain().await;
    let good = kit.enqueue_plain().await;
    kit.damage(bad).await;
    let leases = kit.claim(&session, 9).await;
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [bad, good]);
    assert!(leases[0].task.is_err(), "the error says that it cannot be read");
    assert!(leases[1].task.is_ok(), "it does not stand in the way of others");
    let finished = kit.finish(&session, &leases[0], failure()).await;
    assert_eq!(finished, Finished::Applied(State::Failed));
    let finished = kit.finish(&session, &leases[1], success(b"fine")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
}

pub(crate) async fn a_damaged_task_is_listed_and_can_be_called_off(kit: &Kit) {
    let bad = kit.enqueue_plain().await;
    let good = kit.enqueue_plain().await;
    kit.damage(bad).await;
    let info = kit.info(bad).await;
    assert!(info.task.is_err());
    assert_eq!(info.head.state, State::Ready);
    let listed: Vec<_> = kit.dump().await.iter().map(|info| info.id).collect();
    assert_eq!(listed, [good, bad]);
    assert_eq!(kit.cancel(&[bad]).await.moved.len(), 1);
    assert_eq!(kit.retry(&[bad]).await.moved.len(), 1);
    assert_eq!(kit.state(bad).await, State::Ready);
}

pub(crate) async fn a_damaged_task_that_kills_workers_fails_in_the_end(kit: &Kit) {
    let bad = kit.enqueue_plain().await;
    kit.damage(bad).await;
    for _ in 0..4 {
        let session = kit.session().await;
        kit.claim_one(&session).await;
        kit.advance(LEASE + TICK);
        assert_eq!(kit.reclaim().await, [bad]);
    }
    let head = kit.head(bad).await;
    assert_eq!((head.state, head.crashes), (State::Failed, 4), "three crashes are borne");
    assert_eq!(kit.end_kind(bad).await, Some(Kind::Crashed));
}

pub(crate) async fn a_damaged_child_is_released(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = kit.enqueue_with(|task| task.after = vec![parent]).await;
    kit.damage(child).await;
    kit.run_one(&session).await;
    let state = kit.state(child).await;
    assert!(matches!(state, State::Ready | State::Cancelled), "it does not wait for ever: {state}");
}

pub(crate) async fn large_arguments_and_results_are_kept(kit: &Kit) {
    let session = kit.session().await;
    let large: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 249) as u8).collect();
    let task = kit.task_with(|task| task.args = Payload::raw(large.clone()));
    let id = kit.enqueue(task.clone()).await;
    let lease = kit.claim_one(&session).await;
    assert!(*lease.task.as_ref().unwrap().clone() == task, "1 MiB comes as it went");
    kit.finish(&session, &lease, success(&large)).await;
    assert!(bytes_of(&kit.head(id).await) == large);
    assert!(matches!(kit.offer(task).await, Enqueued::Duplicate { .. }));
}

pub(crate) async fn ten_thousand_tasks_go_through_in_large_batches(kit: &Kit) {
    let session = kit.session().await;
    let tasks: Vec<_> = (0..10_000).map(|_| kit.task()).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    let answers = kit.store.enqueue(tasks).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Enqueued::Created));
    let mut order = Vec::new();
    loop {
        let leases = kit.claim(&session, 3000).await;
        if leases.is_empty() {
            break;
        }
        order.extend(leases.iter().map(|lease| lease.id));
        let end = |lease: &omniq_store::Lease| End {
            id: lease.id,
            token: lease.token,
            how: success(b"done"),
        };
        let finished = kit.store.finish(&session, leases.iter().map(end).collect()).await.unwrap();
        assert!(finished.iter().all(|one| *one == Finished::Applied(State::Succeeded)));
    }
    assert!(order == ids, "all of them, in their order");
    assert_eq!(kit.counts().await, [(State::Succeeded, 10_000)].into());
    let got = kit.store.get(&ids).await.unwrap();
    assert!(got.iter().all(Option::is_some));
    let all = Select { filter: Filter::default(), max: 20_000 };
    assert_eq!(kit.store.remove(&all).await.unwrap().moved.len(), 10_000);
}

pub(crate) async fn extremes_of_every_field_are_kept(kit: &Kit) {
    let task = kit.task_with(|task| {
        task.function = "ü\u{0}\u{10ffff}'\"--".into();
        task.retry.attempts = u32::MAX;
        task.retry.crashes = u32::MAX;
        task.result_ttl = omniq_model::Span::from_millis(u64::MAX);
        task.ttl = Some(omniq_model::Span::from_millis(u64::MAX));
        task.limits.fuel = Some(u64::MAX);
        task.labels = (0..100).map(|index| (format!("key {index}"), "v".repeat(100))).collect();
    });
    let id = kit.enqueue(task.clone()).await;
    assert_eq!(*kit.info(id).await.task.unwrap(), task);
    assert_eq!(kit.run_one(&kit.session().await).await, id);
    assert_eq!(kit.store.purge(9).await.unwrap(), 0, "kept until the end of time");
    let late = kit
        .enqueue_with(|task| {
            task.run_at = Some(omniq_model::Timestamp::from_millis(i64::MAX));
            task.delay = omniq_model::Span::from_millis(u64::MAX);
        })
        .await;
    assert_eq!(kit.state(late).await, State::Scheduled);
    kit.store.promote(9).await.unwrap();
}
