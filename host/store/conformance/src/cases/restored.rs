//! Put back from a backup: no lease of before means anything any more, and no fence means two claims.

use omniq_model::{State, TaskId};
use omniq_store::{Admin as _, Beat, FENCE_STEP, Finished, Held, Moved, Restored};

use crate::faulty::Faulty;
use crate::kit::{Kit, LEASE, TICK, WHILE, again, failure, release, success};

async fn restored(kit: &Kit) -> Restored {
    let mut restored = kit.admin().restored().await.unwrap();
    restored.moved.sort_by_key(|moved| moved.id);
    restored
}

/// What of a move is to be told.
fn told(moved: &[Moved]) -> Vec<(TaskId, u64, u32, State, State)> {
    let told = |moved: &Moved| (moved.id, moved.fence, moved.attempt, moved.from, moved.to);
    moved.iter().map(told).collect()
}

async fn incarnation(kit: &Kit) -> Option<String> {
    kit.admin().check().await.unwrap().layout.map(|layout| layout.incarnation)
}

pub(crate) async fn what_ran_is_ready_again_and_its_token_is_stale(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let old = kit.claim_one(&session).await;
    let moved = restored(kit).await.moved;
    assert_eq!(told(&moved), [(id, 1, 0, State::Running, State::Ready)], "as its claim was");
    let head = kit.head(id).await;
    assert_eq!((head.state, head.attempt, head.crashes), (State::Ready, 0, 0));
    assert_eq!((head.fence, head.lease), (old.token.fence + FENCE_STEP, None));
    assert_eq!(kit.finish(&session, &old, success(b"late")).await, Finished::Stale);
    let new = kit.claim_one(&kit.session().await).await;
    assert_eq!((new.token.fence, new.attempt), (old.token.fence + FENCE_STEP + 1, 1));
    assert_eq!(kit.finish(&session, &old, success(b"late")).await, Finished::Stale);
    let applied = kit.finish(&session, &new, success(b"done")).await;
    assert_eq!(applied, Finished::Applied(State::Succeeded));
}

pub(crate) async fn every_session_is_over(kit: &Kit) {
    let (idle, dead) = (kit.session().await, kit.session().await);
    let left = kit.enqueue_plain().await;
    kit.claim_one(&dead).await;
    kit.advance(LEASE);
    kit.store.heartbeat(&idle, Held::default()).await.unwrap();
    kit.advance(TICK);
    let busy = kit.session().await;
    let id = kit.enqueue_plain().await;
    let lease = kit.claim_one(&busy).await;
    let moved = restored(kit).await.moved;
    assert_eq!(moved.iter().map(|moved| moved.id).collect::<Vec<_>>(), [left, id]);
    let held = Held::of(&[(lease.id, lease.token)]);
    for session in [idle, dead, busy] {
        assert_eq!(kit.store.heartbeat(&session, held).await.unwrap(), Beat::Dead);
        assert_eq!(kit.store.cancels(&session).await.unwrap(), []);
        assert!(kit.claim(&session, 2).await.is_empty(), "who is dead gets nothing");
    }
    assert!(kit.admin().stats().await.unwrap().workers.is_empty());
    assert!(kit.reclaim().await.is_empty(), "nothing is left to be taken from the dead");
    assert_eq!(kit.head(left).await.crashes, 0);
    assert_eq!(kit.claim_ids(&kit.session().await, 3).await, [left, id]);
}

pub(crate) async fn fences_of_what_waits_rise_too(kit: &Kit) {
    let session = kit.session().await;
    let mut before = Vec::new();
    for how in [again(WHILE), again(TICK), release(WHILE), release(TICK)] {
        kit.enqueue_plain().await;
        let lease = kit.claim_one(&session).await;
        kit.finish(&session, &lease, how).await;
        before.push(lease);
    }
    kit.advance(TICK);
    kit.store.promote(10).await.unwrap();
    let mut expected = kit.dump().await;
    expected.iter_mut().for_each(|info| info.head.fence += FENCE_STEP);
    assert!(restored(kit).await.moved.is_empty(), "nothing ran");
    assert_eq!(format!("{:?}", kit.dump().await), format!("{expected:?}"));
    for lease in &before {
        let late = kit.finish(&session, lease, success(b"late")).await;
        assert_eq!(late, Finished::Stale, "not even as applied before");
    }
    kit.advance(WHILE);
    kit.store.promote(10).await.unwrap();
    let leases = kit.claim(&kit.session().await, 10).await;
    assert_eq!(leases.len(), before.len());
    assert!(leases.iter().all(|lease| lease.token.fence == FENCE_STEP + 2));
}

pub(crate) async fn what_was_never_claimed_is_as_it_was(kit: &Kit) {
    let ready = kit.enqueue_plain().await;
    let child = kit.enqueue_with(|task| task.after = vec![ready]).await;
    let later = kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let before = kit.dump().await;
    assert!(restored(kit).await.moved.is_empty());
    assert_eq!(format!("{:?}", kit.dump().await), format!("{before:?}"));
    assert_eq!(kit.head(child).await.fence, 0);
    let session = kit.session().await;
    let lease = kit.claim_one(&session).await;
    assert_eq!((lease.id, lease.token.fence), (ready, 1));
    kit.finish(&session, &lease, success(b"done")).await;
    kit.advance(WHILE);
    kit.store.promote(10).await.unwrap();
    assert_eq!(kit.claim_ids(&kit.session().await, 10).await, [child, later]);
}

pub(crate) async fn what_was_called_off_is_cancelled(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let child = kit.enqueue_with(|task| task.after = vec![id]).await;
    let lease = kit.claim_one(&session).await;
    kit.cancel(&[id]).await;
    let moved = restored(kit).await.moved;
    assert_eq!(told(&moved), [(id, 1, 0, State::Running, State::Cancelled)]);
    assert_eq!(kit.states(&[id, child]).await, [State::Cancelled; 2], "and what waited for it");
    assert_eq!(kit.head(id).await.fence, 1, "what has ended is left alone");
    assert_eq!(kit.finish(&session, &lease, success(b"late")).await, Finished::Stale);
}

pub(crate) async fn what_has_ended_is_left_alone(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    kit.enqueue_plain().await;
    let leases = kit.claim(&session, 2).await;
    kit.finish(&session, &leases[0], success(b"15")).await;
    kit.finish(&session, &leases[1], failure()).await;
    let before = kit.dump().await;
    assert!(restored(kit).await.moved.is_empty());
    assert_eq!(format!("{:?}", kit.dump().await), format!("{before:?}"));
    let same = kit.finish(&session, &leases[0], success(b"15")).await;
    assert_eq!(same, Finished::AppliedBefore(State::Succeeded), "its end is still known");
}

pub(crate) async fn it_can_be_said_again(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    let mut seen = vec![incarnation(kit).await];
    let faulty = Faulty::new(kit.store.clone());
    faulty.lose_answer("restored");
    faulty.restored().await.unwrap_err();
    for times in 2..4 {
        let answer = restored(kit).await;
        assert!(answer.moved.is_empty(), "it was put back the first time");
        assert_eq!(answer.incarnation, incarnation(kit).await);
        assert_eq!(kit.head(id).await.fence, 1 + times * FENCE_STEP);
        seen.push(answer.incarnation);
    }
    if seen[0].is_some() {
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3, "each time it is another store: {seen:?}");
    }
    assert_eq!(kit.claim_one(&kit.session().await).await.token.fence, 2 + 3 * FENCE_STEP);
}

pub(crate) async fn thousands_are_put_back_and_raised(kit: &Kit) {
    const COUNT: usize = 1200;
    let tasks = (0..2 * COUNT).map(|_| kit.task()).collect();
    kit.store.enqueue(tasks).await.unwrap();
    let (first, second) = (kit.session().await, kit.session().await);
    for lease in kit.claim(&first, COUNT).await {
        kit.finish(&first, &lease, release(WHILE)).await;
    }
    let held = kit.claim(&first, 700).await.len() + kit.claim(&second, 300).await.len();
    let moved = restored(kit).await.moved;
    assert_eq!((held, moved.len()), (1000, 1000));
    for info in kit.dump().await {
        let claimed = info.head.fence == 1 + FENCE_STEP;
        let waits = matches!(info.head.state, State::Ready | State::Scheduled);
        assert!(waits && (claimed || info.head.fence == 0), "{:?}", info.head);
    }
    assert_eq!(kit.counts().await[&State::Ready] as usize, COUNT);
}

/// Works until nothing is left, and goes on in another session when the one before is over.
async fn work(kit: Kit) {
    let mut session = kit.session().await;
    while !kit.store.is_idle().await.unwrap() {
        let leases = kit.claim(&session, 5).await;
        for lease in &leases {
            kit.finish(&session, lease, success(b"done")).await;
        }
        if leases.is_empty() {
            if kit.store.heartbeat(&session, Held::default()).await.unwrap() == Beat::Dead {
                session = kit.session().await;
            }
            // A claim that was under way may have come after its session was over.
            kit.reclaim().await;
        }
    }
}

pub(crate) async fn workers_that_go_on_meanwhile_lose_nothing(kit: &Kit) {
    let tasks = (0..300).map(|_| kit.task()).collect();
    kit.store.enqueue(tasks).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        workers.spawn(work(kit.clone()));
    }
    for _ in 0..3 {
        tokio::task::yield_now().await;
        restored(kit).await;
    }
    workers.join_all().await;
    for info in kit.dump().await {
        assert_eq!(info.head.state, State::Succeeded, "{:?}", info.head);
    }
}

pub(crate) async fn it_survives_reopening(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    let old = kit.claim_one(&session).await;
    let before = incarnation(kit).await;
    let said = restored(kit).await;
    let kit = kit.reopen().await;
    assert!(before.is_some() && said.incarnation != before);
    assert_eq!(incarnation(&kit).await, said.incarnation);
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    assert_eq!(kit.finish(&session, &old, success(b"late")).await, Finished::Stale);
    let new = kit.claim_one(&kit.session().await).await;
    assert_eq!((new.id, new.token.fence), (id, FENCE_STEP + 2));
}

pub(crate) async fn another_process_can_say_it(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    let old = kit.claim_one(&session).await;
    let beside = kit.beside().await;
    let said = restored(&beside).await;
    assert_eq!(said.moved.len(), 1);
    assert_eq!(incarnation(kit).await, said.incarnation);
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    assert_eq!(kit.finish(&session, &old, success(b"late")).await, Finished::Stale);
    let new = kit.claim_one(&kit.session().await).await;
    assert_eq!(new.token.fence, FENCE_STEP + 2);
}
