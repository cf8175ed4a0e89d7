//! Dead workers: what they held is run again, not too soon, not for ever.

use std::sync::Arc;

use omniq_model::{Kind, SessionId, State};
use omniq_store::{Beat, Held, TaskStore as _, WorkerInfo};

use crate::faulty::Faulty;
use crate::kit::{Kit, LEASE, TICK, WHILE};

/// Claims the next task with a worker that dies at once.
async fn crash(kit: &Kit) {
    let session = kit.session().await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
}

pub(crate) async fn a_dead_workers_task_is_ready_again(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.advance(LEASE);
    assert!(kit.reclaim().await.is_empty(), "never before the lease is over");
    kit.advance(TICK);
    let moved = kit.store.reclaim(9).await.unwrap();
    assert_eq!(moved.len(), 1);
    assert_eq!((moved[0].id, moved[0].from, moved[0].to), (id, State::Running, State::Ready));
    assert_eq!((moved[0].fence, moved[0].attempt), (1, 0));
    let head = kit.head(id).await;
    assert_eq!((head.attempt, head.crashes, head.fence), (0, 1, 1), "a crash is no attempt");
    let lease = kit.claim_one(&kit.session().await).await;
    assert_eq!((lease.attempt, lease.crashes, lease.token.fence), (1, 1, 2));
}

pub(crate) async fn past_its_budget_of_crashes_a_task_has_failed(kit: &Kit) {
    let id = kit.enqueue_with(|task| task.retry.crashes = 2).await;
    for crashes in 1..=2 {
        crash(kit).await;
        assert_eq!(kit.store.reclaim(9).await.unwrap()[0].to, State::Ready);
        assert_eq!(kit.head(id).await.crashes, crashes);
    }
    crash(kit).await;
    let moved = kit.store.reclaim(9).await.unwrap();
    assert_eq!(moved[0].to, State::Failed);
    let head = kit.head(id).await;
    assert_eq!((head.state, head.crashes, head.fence), (State::Failed, 3, 3));
    assert_eq!(kit.end_kind(id).await, Some(Kind::Crashed));
    let message = head.error.expect("it says why").message;
    assert!(message.contains('3'), "it says how often: {message}");
}

pub(crate) async fn the_living_keep_what_they_hold(kit: &Kit) {
    let (dead, alive) = (kit.session().await, kit.session().await);
    for _ in 0..2 {
        kit.enqueue_plain().await;
    }
    let lost = kit.claim_one(&dead).await;
    let kept = kit.claim_one(&alive).await;
    kit.advance(WHILE);
    let held = Held::of([&(kept.id, kept.token)]);
    kit.store.heartbeat(&alive, held).await.unwrap();
    kit.advance(LEASE - WHILE + TICK);
    assert_eq!(kit.reclaim().await, [lost.id]);
    assert_eq!(kit.state(kept.id).await, State::Running);
}

pub(crate) async fn the_living_keep_it_among_many_dead(kit: &Kit) {
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(kit.enqueue_plain().await);
    }
    let mut sessions = Vec::new();
    // Their ids are in this order, so that the one that lives stands between those that die, wherever that matters.
    for number in [10, 20, 30, 40] {
        let worker = WorkerInfo::default();
        let opened = kit.store.open_session(SessionId::new(number), &worker, LEASE).await;
        sessions.push(opened.unwrap());
    }
    for (session, count) in [(1, 1), (0, 1), (2, 1), (1, 2), (3, 4)] {
        kit.claim(&sessions[session], count).await;
    }
    kit.advance(WHILE);
    kit.store.heartbeat(&sessions[2], Held::default()).await.unwrap();
    kit.advance(LEASE - WHILE + TICK);
    assert_eq!(kit.reclaim().await, [&ids[..2], &ids[3..]].concat());
    assert_eq!(kit.state(ids[2]).await, State::Running);
    kit.advance(WHILE);
    assert_eq!(kit.reclaim().await, [ids[2]], "it was its worker's until then");
    assert_eq!(kit.claim_ids(&kit.session().await, 99).await, ids);
}

pub(crate) async fn reclaiming_is_bounded_and_begins_with_the_oldest(kit: &Kit) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(kit.enqueue_plain().await);
    }
    let (first, second) = (kit.session().await, kit.session().await);
    kit.claim(&first, 2).await;
    kit.claim(&second, 2).await;
    kit.claim(&first, 1).await;
    kit.advance(LEASE + TICK);
    for expected in [&ids[..2], &ids[2..4], &ids[4..], &[]] {
        let moved = kit.store.reclaim(2).await.unwrap();
        assert_eq!(moved.iter().map(|moved| moved.id).collect::<Vec<_>>(), expected);
    }
    assert_eq!(kit.claim_ids(&kit.session().await, 9).await, ids, "all in their old places");
}

pub(crate) async fn many_reclaimers_take_each_once(kit: &Kit) {
    for _ in 0..20 {
        kit.enqueue_plain().await;
    }
    kit.claim(&kit.session().await, 20).await;
    kit.advance(LEASE + TICK);
    let mut reclaimers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let kit = kit.clone();
        reclaimers.spawn(async move { kit.store.reclaim(20).await.unwrap().len() });
    }
    assert_eq!(reclaimers.join_all().await.iter().sum::<usize>(), 20);
    assert!(kit.dump().await.iter().all(|info| info.head.crashes == 1));
}

pub(crate) async fn a_lost_answer_of_a_reclaim_counts_one_crash(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let id = kit.enqueue_plain().await;
    crash(kit).await;
    faulty.lose_answer("reclaim");
    faulty.reclaim(9).await.unwrap_err();
    assert!(faulty.reclaim(9).await.unwrap().is_empty());
    assert_eq!(kit.head(id).await.crashes, 1);
}

pub(crate) async fn crashes_and_attempts_are_counted_apart(kit: &Kit) {
    let id = kit.enqueue_plain().await;
    crash(kit).await;
    kit.reclaim().await;
    let session = kit.session().await;
    let lease = kit.claim_one(&session).await;
    kit.finish(&session, &lease, crate::kit::again(std::time::Duration::ZERO)).await;
    crash(kit).await;
    kit.reclaim().await;
    let head = kit.head(id).await;
    assert_eq!((head.attempt, head.crashes, head.fence), (1, 2, 3));
}

pub(crate) async fn a_dead_session_stays_dead_after_its_tasks_are_gone(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    kit.reclaim().await;
    kit.reclaim().await; // sessions without tasks may be forgotten now
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    assert!(kit.claim(&session, 1).await.is_empty());
}

pub(crate) async fn what_a_dead_process_held_is_reclaimed_after_reopening(kit: &Kit) {
    let id = kit.enqueue_plain().await;
    kit.claim_one(&kit.session().await).await;
    let kit = kit.reopen().await;
    assert!(kit.reclaim().await.is_empty(), "its lease is not over");
    kit.advance(LEASE + TICK);
    assert_eq!(kit.reclaim().await, [id]);
}
