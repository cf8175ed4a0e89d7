//! A4. A session lives as long as its heartbeats say, never longer, and never twice.

use std::sync::Arc;

use omniq_model::{SessionId, State};
use omniq_store::{Beat, Finished, Held, Session, TaskStore as _, WorkerInfo};

use crate::faulty::Faulty;
use crate::kit::{Kit, LEASE, TICK, WHILE, success};

const ALIVE: Beat = Beat::Alive { matches: true, cancel: Vec::new() };

pub(crate) async fn heartbeats_keep_a_session_alive(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    let held = Held::of([&(lease.id, lease.token)]);
    for _ in 0..10 {
        kit.advance(LEASE - TICK);
        assert_eq!(kit.store.heartbeat(&session, held).await.unwrap(), ALIVE);
        assert!(kit.reclaim().await.is_empty());
    }
    let finished = kit.finish(&session, &lease, success(b"slow")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
}

pub(crate) async fn a_session_lives_at_its_last_instant_and_not_after(kit: &Kit) {
    let (last, late) = (kit.session().await, kit.session().await);
    kit.advance(LEASE);
    assert_eq!(kit.store.heartbeat(&last, Held::default()).await.unwrap(), ALIVE);
    kit.advance(TICK);
    assert_eq!(kit.store.heartbeat(&late, Held::default()).await.unwrap(), Beat::Dead);
    assert_eq!(kit.store.heartbeat(&last, Held::default()).await.unwrap(), ALIVE);
}

pub(crate) async fn the_dead_are_never_revived(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    for _ in 0..2 {
        assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    }
    assert_eq!(kit.reclaim().await, [id]);
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    assert!(kit.claim(&session, 1).await.is_empty());
}

pub(crate) async fn unknown_and_closed_sessions_are_dead(kit: &Kit) {
    let never = Session { id: SessionId::new(kit.fresh()), lease: LEASE };
    let closed = kit.session().await;
    kit.store.close_session(&closed).await.unwrap();
    for session in [never, closed] {
        assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    }
}

pub(crate) async fn a_fingerprint_that_differs_is_told(kit: &Kit) {
    let session = kit.session().await;
    for _ in 0..2 {
        kit.enqueue_plain().await;
    }
    let leases = kit.claim(&session, 2).await;
    let pairs: Vec<_> = leases.iter().map(|lease| (lease.id, lease.token)).collect();
    let mut forged = pairs.clone();
    forged[0].1.nonce ^= 1;
    let (one, wrong) = (Held::of(&pairs[..1]), Held::of(&forged));
    for (held, expected) in [
        (Held::of(&pairs), true),
        (Held::of(pairs.iter().rev()), true),
        (one, false),
        (wrong, false),
        (Held::default(), false),
    ] {
        let beat = kit.store.heartbeat(&session, held).await.unwrap();
        assert_eq!(beat, Beat::Alive { matches: expected, cancel: vec![] }, "{held:?}");
    }
    kit.finish(&session, &leases[1], success(b"done")).await;
    assert_eq!(kit.store.heartbeat(&session, one).await.unwrap(), ALIVE);
}

pub(crate) async fn a_wish_to_stop_reaches_the_session(kit: &Kit) {
    let (session, other) = (kit.session().await, kit.session().await);
    for _ in 0..3 {
        kit.enqueue_plain().await;
    }
    let mine = kit.claim(&session, 2).await;
    let theirs = kit.claim_one(&other).await;
    assert_eq!(kit.store.cancels(&session).await.unwrap(), []);
    kit.cancel(&[mine[1].id, theirs.id]).await;
    let expected = vec![(mine[1].id, mine[1].token)];
    assert_eq!(kit.store.cancels(&session).await.unwrap(), expected);
    let held = Held::of(&[(mine[0].id, mine[0].token), (mine[1].id, mine[1].token)]);
    let beat = kit.store.heartbeat(&session, held).await.unwrap();
    assert_eq!(beat, Beat::Alive { matches: true, cancel: expected });
    kit.finish(&session, &mine[1], success(b"done")).await;
    assert_eq!(kit.store.cancels(&session).await.unwrap(), []);
}

pub(crate) async fn closing_puts_everything_back_at_once(kit: &Kit) {
    let session = kit.session().await;
    let other = kit.session().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(kit.enqueue_plain().await);
    }
    let kept = kit.claim_one(&other).await;
    kit.claim(&session, 2).await;
    let mut moved = kit.store.close_session(&session).await.unwrap();
    moved.sort_by_key(|moved| moved.id);
    let got: Vec<_> = moved.iter().map(|moved| (moved.id, moved.from, moved.to)).collect();
    let mut expected: Vec<_> =
        ids[1..].iter().map(|id| (*id, State::Running, State::Ready)).collect();
    expected.sort_unstable();
    assert_eq!(got, expected);
    assert!(moved.iter().all(|moved| moved.fence == 1 && moved.attempt == 0));
    assert_eq!(kit.state(kept.id).await, State::Running);
    let head = kit.head(ids[1]).await;
    assert_eq!((head.attempt, head.crashes), (0, 0), "a deploy is not the task's doing");
    assert!(kit.store.close_session(&session).await.unwrap().is_empty(), "closing twice is fine");
}

pub(crate) async fn a_task_called_off_is_not_put_back_by_closing(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.cancel(&[id]).await;
    let moved = kit.store.close_session(&session).await.unwrap();
    assert_eq!(moved[0].to, State::Cancelled);
    assert_eq!(kit.state(id).await, State::Cancelled);
}

pub(crate) async fn lost_answers_of_a_session_are_repeated_without_harm(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let id = SessionId::new(kit.fresh());
    let worker = WorkerInfo::default();
    faulty.lose_answer("open_session");
    faulty.open_session(id, &worker, LEASE).await.unwrap_err();
    let session = faulty.open_session(id, &worker, LEASE).await.unwrap();
    faulty.lose_answer("heartbeat");
    faulty.heartbeat(&session, Held::default()).await.unwrap_err();
    assert_eq!(faulty.heartbeat(&session, Held::default()).await.unwrap(), ALIVE);
    let task = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    faulty.lose_answer("close_session");
    faulty.close_session(&session).await.unwrap_err();
    faulty.close_session(&session).await.unwrap();
    let head = kit.head(task).await;
    assert_eq!((head.state, head.attempt, head.fence), (State::Ready, 0, 1));
}

pub(crate) async fn opening_does_not_revive_the_dead(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    kit.store.open_session(session.id, &WorkerInfo::default(), LEASE).await.unwrap();
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
    assert_eq!(kit.reclaim().await.len(), 1);
}

pub(crate) async fn opening_again_keeps_a_session_alive(kit: &Kit) {
    let session = kit.session().await;
    kit.advance(WHILE);
    kit.store.open_session(session.id, &WorkerInfo::default(), LEASE).await.unwrap();
    kit.advance(LEASE);
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), ALIVE);
}

pub(crate) async fn a_session_is_known_to_other_processes(kit: &Kit) {
    let session = kit.session().await;
    let id = kit.enqueue_plain().await;
    kit.claim_one(&session).await;
    let beside = kit.beside().await;
    assert!(beside.reclaim().await.is_empty(), "it lives, over there");
    kit.advance(LEASE + TICK);
    assert_eq!(beside.reclaim().await, [id]);
    assert_eq!(kit.store.heartbeat(&session, Held::default()).await.unwrap(), Beat::Dead);
}
