//! Purge and removal: what has ended is kept as long as it was to be, and then it is gone.

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{State, TaskId};
use omniq_store::{Filter, Select, TaskStore as _};

use crate::faulty::Faulty;
use crate::kit::{Kit, TICK, WHILE, select};

async fn short_lived(kit: &Kit) -> TaskId {
    kit.enqueue_with(|task| task.result_ttl = WHILE.into()).await
}

pub(crate) async fn ended_tasks_are_kept_for_their_time(kit: &Kit) {
    let session = kit.session().await;
    let short = short_lived(kit).await;
    let long = kit.enqueue_with(|task| task.result_ttl = (WHILE * 100).into()).await;
    kit.run_one(&session).await;
    kit.run_one(&session).await;
    kit.advance(WHILE - TICK);
    assert_eq!(kit.store.purge(9).await.unwrap(), 0);
    assert_eq!(kit.state(short).await, State::Succeeded);
    kit.advance(TICK * 2);
    assert_eq!(kit.store.purge(9).await.unwrap(), 1);
    assert!(kit.find(short).await.is_none());
    assert_eq!(kit.state(long).await, State::Succeeded);
}

pub(crate) async fn the_time_counts_from_the_end(kit: &Kit) {
    let session = kit.session().await;
    let id = short_lived(kit).await;
    kit.advance(WHILE * 2);
    kit.store.heartbeat(&session, Default::default()).await.unwrap();
    assert_eq!(kit.store.purge(9).await.unwrap(), 0, "what lives is never purged");
    let session = kit.session().await;
    kit.run_one(&session).await;
    kit.advance(WHILE - TICK);
    assert_eq!(kit.store.purge(9).await.unwrap(), 0);
    assert_eq!(kit.state(id).await, State::Succeeded);
}

pub(crate) async fn every_end_is_purged(kit: &Kit) {
    let session = kit.session().await;
    short_lived(kit).await;
    kit.fail_one(&session).await;
    let cancelled = short_lived(kit).await;
    kit.cancel(&[cancelled]).await;
    kit.enqueue_with(|task| {
        task.result_ttl = WHILE.into();
        task.ttl = Some(TICK.into());
    })
    .await;
    kit.advance(TICK);
    kit.store.expire(9).await.unwrap();
    kit.advance(WHILE + TICK);
    assert_eq!(kit.store.purge(9).await.unwrap(), 3);
    assert!(kit.dump().await.is_empty());
}

pub(crate) async fn purging_is_bounded(kit: &Kit) {
    for _ in 0..5 {
        short_lived(kit).await;
    }
    kit.store.cancel(&Select { filter: Filter::default(), max: 5 }).await.unwrap();
    kit.advance(WHILE + TICK);
    for expected in [2, 2, 1, 0] {
        assert_eq!(kit.store.purge(2).await.unwrap(), expected);
    }
}

pub(crate) async fn a_purged_id_is_free_again(kit: &Kit) {
    let session = kit.session().await;
    let task = kit.task_with(|task| task.result_ttl = WHILE.into());
    kit.enqueue(task.clone()).await;
    kit.run_one(&session).await;
    kit.advance(WHILE + TICK);
    kit.store.purge(9).await.unwrap();
    let id = kit.enqueue(task).await;
    let head = kit.head(id).await;
    assert_eq!((head.state, head.fence, head.created), (State::Ready, 0, kit.now()));
}

pub(crate) async fn a_retried_task_is_not_purged_by_its_first_end(kit: &Kit) {
    let session = kit.session().await;
    let id = short_lived(kit).await;
    kit.fail_one(&session).await;
    kit.retry(&[id]).await;
    kit.advance(WHILE * 2);
    assert_eq!(kit.store.purge(9).await.unwrap(), 0);
    assert_eq!(kit.state(id).await, State::Ready);
}

pub(crate) async fn ended_tasks_are_removed_on_demand(kit: &Kit) {
    let session = kit.session().await;
    let done = kit.enqueue_plain().await;
    kit.run_one(&session).await;
    let running = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    let ready = kit.enqueue_plain().await;
    let outcome = kit.remove(&[done, running, ready]).await;
    assert_eq!(outcome.moved.len(), 1);
    assert_eq!((outcome.moved[0].id, outcome.moved[0].to), (done, State::Succeeded));
    assert_eq!(outcome.skipped, [(running, State::Running), (ready, State::Ready)]);
    assert!(kit.find(done).await.is_none());
    assert_eq!(kit.states(&[running, ready]).await, [State::Running, State::Ready]);
}

pub(crate) async fn a_lost_answer_of_a_removal_removes_once(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let id = kit.enqueue_plain().await;
    kit.cancel(&[id]).await;
    faulty.lose_answer("remove");
    faulty.remove(&select(&[id])).await.unwrap_err();
    let again = faulty.remove(&select(&[id])).await.unwrap();
    assert_eq!((again.moved.len(), again.skipped.len()), (0, 0));
}

pub(crate) async fn a_child_outlives_its_parents_record(kit: &Kit) {
    let session = kit.session().await;
    let first = kit.enqueue_with(|task| task.result_ttl = Duration::ZERO.into()).await;
    let second = kit.enqueue_plain().await;
    let child = kit.enqueue_with(|task| task.after = vec![first, second]).await;
    kit.run_one(&session).await;
    kit.advance(TICK);
    assert_eq!(kit.store.purge(9).await.unwrap(), 1);
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Ready, "the end of the purged one is remembered");
}
