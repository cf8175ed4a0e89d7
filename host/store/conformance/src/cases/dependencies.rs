//! Dependencies: a task starts after what it waits for, and nothing waits for ever.

use omniq_model::{Kind, OnParentFailure, State, TaskId};
use omniq_store::{Enqueued, Finished, Refusal};

use crate::kit::{Kit, LEASE, TICK, WHILE, again, dump_ended, success};

async fn child(kit: &Kit, parents: &[TaskId]) -> TaskId {
    kit.enqueue_with(|task| task.after = parents.to_vec()).await
}

async fn stubborn_child(kit: &Kit, parents: &[TaskId]) -> TaskId {
    kit.enqueue_with(|task| {
        task.after = parents.to_vec();
        task.on_parent_failure = OnParentFailure::Run;
    })
    .await
}

pub(crate) async fn a_child_waits_for_all_its_parents(kit: &Kit) {
    let session = kit.session().await;
    let (left, right) = (kit.enqueue_plain().await, kit.enqueue_plain().await);
    let child = child(kit, &[left, right]).await;
    assert_eq!(kit.state(child).await, State::Blocked);
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Blocked);
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Ready);
    assert_eq!(kit.run_one(&session).await, child);
}

pub(crate) async fn a_batch_may_hold_a_whole_graph(kit: &Kit) {
    let session = kit.session().await;
    let root = kit.task();
    let left = kit.task_with(|task| task.after = vec![root.id]);
    let right = kit.task_with(|task| task.after = vec![root.id]);
    let last = kit.task_with(|task| task.after = vec![left.id, right.id, root.id]);
    let ids = [root.id, left.id, right.id, last.id];
    let answers = kit.store.enqueue(vec![root, left, right, last]).await.unwrap();
    assert_eq!(
        answers,
        [Enqueued::Created, Enqueued::Created, Enqueued::Created, Enqueued::Created]
    );
    let mut order = Vec::new();
    while !kit.store.is_idle().await.unwrap() {
        order.push(kit.run_one(&session).await);
    }
    assert_eq!(order, ids);
}

pub(crate) async fn unknown_parents_are_refused(kit: &Kit) {
    let later = kit.task();
    let early = kit.task_with(|task| task.after = vec![later.id]);
    let narcissus = kit.task_with(|task| task.after = vec![task.id]);
    let unknown = |id| Enqueued::Refused(Refusal::UnknownParent(id));
    let expected = [unknown(later.id), unknown(narcissus.id), Enqueued::Created];
    let answers = kit.store.enqueue(vec![early, narcissus, later]).await.unwrap();
    assert_eq!(answers, expected, "only earlier ones of the batch count");
}

pub(crate) async fn parents_that_have_ended_count_as_they_ended(kit: &Kit) {
    let session = kit.session().await;
    let good = kit.enqueue_plain().await;
    kit.run_one(&session).await;
    let bad = kit.enqueue_plain().await;
    kit.fail_one(&session).await;
    let happy = child(kit, &[good]).await;
    let sad = child(kit, &[good, bad]).await;
    let stubborn = stubborn_child(kit, &[good, bad]).await;
    let states = [State::Ready, State::Cancelled, State::Ready];
    assert_eq!(kit.states(&[happy, sad, stubborn]).await, states);
    assert_eq!(kit.end_kind(sad).await, Some(Kind::ParentFailed));
}

pub(crate) async fn a_parent_that_fails_takes_its_children_along(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child_one = child(kit, &[parent]).await;
    let grandchild = child(kit, &[child_one]).await;
    let stubborn = stubborn_child(kit, &[grandchild]).await;
    kit.fail_one(&session).await;
    let ids = [child_one, grandchild, stubborn];
    assert_eq!(kit.states(&ids).await, [State::Cancelled, State::Cancelled, State::Ready]);
    assert_eq!(kit.end_kind(child_one).await, Some(Kind::ParentFailed));
    assert_eq!(kit.end_kind(grandchild).await, Some(Kind::ParentFailed));
    let ended: Vec<_> = dump_ended(&*kit.store).await.iter().map(|info| info.id).collect();
    assert!(ended.contains(&child_one) && ended.contains(&grandchild));
}

pub(crate) async fn a_stubborn_child_waits_for_all_ends(kit: &Kit) {
    let session = kit.session().await;
    let (bad, slow) = (kit.enqueue_plain().await, kit.enqueue_plain().await);
    let stubborn = stubborn_child(kit, &[bad, slow]).await;
    kit.fail_one(&session).await;
    assert_eq!(kit.state(stubborn).await, State::Blocked);
    kit.run_one(&session).await;
    assert_eq!(kit.state(stubborn).await, State::Ready);
}

pub(crate) async fn every_way_to_end_settles_children(kit: &Kit) {
    let session = kit.session().await;
    let cancelled = kit.enqueue_plain().await;
    let expired = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    let children = [stubborn_child(kit, &[cancelled]).await, stubborn_child(kit, &[expired]).await];
    kit.cancel(&[cancelled]).await;
    kit.advance(WHILE + TICK);
    kit.store.expire(9).await.unwrap();
    assert_eq!(kit.states(&children).await, [State::Ready; 2]);
    kit.cancel(&children).await;
    let crashing = kit.enqueue_with(|task| task.retry.crashes = 0).await;
    let child = stubborn_child(kit, &[crashing]).await;
    kit.store.heartbeat(&session, Default::default()).await.unwrap();
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    kit.reclaim().await;
    assert_eq!(kit.states(&[crashing, child]).await, [State::Failed, State::Ready]);
}

pub(crate) async fn an_attempt_that_fails_settles_nothing(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = child(kit, &[parent]).await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, again(WHILE)).await;
    assert_eq!(kit.states(&[parent, child]).await, [State::Scheduled, State::Blocked]);
}

pub(crate) async fn a_child_has_its_own_delay_as_well(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let late = kit
        .enqueue_with(|task| {
            task.after = vec![parent];
            task.delay = WHILE.into();
        })
        .await;
    let due = kit.now() + WHILE;
    kit.run_one(&session).await;
    assert_eq!(kit.state(late).await, State::Scheduled);
    assert_eq!(kit.head(late).await.run_at, Some(due), "counted from its own arrival");
    kit.advance(WHILE);
    kit.store.promote(9).await.unwrap();
    assert_eq!(kit.run_one(&session).await, late);
}

pub(crate) async fn a_parent_named_twice_counts_once(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = child(kit, &[parent, parent]).await;
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Ready);
}

pub(crate) async fn a_child_called_off_stays_so(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = child(kit, &[parent]).await;
    kit.cancel(&[child]).await;
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Cancelled);
    assert_eq!(kit.end_kind(child).await, Some(Kind::Cancelled));
}

pub(crate) async fn a_retry_of_the_parent_does_not_wake_its_dead_children(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = child(kit, &[parent]).await;
    kit.fail_one(&session).await;
    kit.retry(&[parent]).await;
    kit.run_one(&session).await;
    assert_eq!(kit.state(child).await, State::Cancelled);
    kit.retry(&[child]).await;
    assert_eq!(kit.run_one(&session).await, child);
}

/// The race of storage: the child's edge goes in while the parent's end is on its way.
pub(crate) async fn a_child_that_arrives_while_its_parent_ends_is_released(kit: &Kit) {
    let session = kit.session().await;
    for round in 0..30 {
        let parent = kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        let ending = {
            let kit = kit.clone();
            tokio::spawn(async move { kit.finish(&session, &lease, success(b"done")).await })
        };
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let child = child(kit, &[parent]).await;
        assert_eq!(ending.await.unwrap(), Finished::Applied(State::Succeeded));
        assert_eq!(kit.state(child).await, State::Ready, "round {round}");
        kit.run_one(&session).await;
    }
}

pub(crate) async fn a_wide_graph_is_released_at_once(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.task();
    let mut tasks = vec![parent.clone()];
    tasks.extend((0..500).map(|_| kit.task_with(|task| task.after = vec![parent.id])));
    let last = kit.task_with(|task| task.after = tasks.iter().map(|task| task.id).collect());
    let last_id = last.id;
    tasks.push(last);
    kit.store.enqueue(tasks).await.unwrap();
    kit.run_one(&session).await;
    let leases = kit.claim(&session, 1000).await;
    assert_eq!(leases.len(), 500);
    let ends = leases
        .iter()
        .map(|lease| omniq_store::End { id: lease.id, token: lease.token, how: success(b"1") })
        .collect();
    kit.store.finish(&session, ends).await.unwrap();
    assert_eq!(kit.state(last_id).await, State::Ready);
}

pub(crate) async fn a_long_chain_falls_as_one(kit: &Kit) {
    let mut tasks = vec![kit.task()];
    for _ in 0..1000 {
        let parent = tasks.last().expect("there is one").id;
        tasks.push(kit.task_with(|task| task.after = vec![parent]));
    }
    let root = tasks[0].id;
    kit.store.enqueue(tasks).await.unwrap();
    kit.cancel(&[root]).await;
    assert_eq!(kit.counts().await, [(State::Cancelled, 1001)].into());
}

pub(crate) async fn an_unfinished_graph_survives_reopening(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    let child = child(kit, &[parent]).await;
    let kit = kit.reopen().await;
    kit.run_one(&session).await;
    assert_eq!(kit.run_one(&session).await, child);
}
