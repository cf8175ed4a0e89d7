//! A2. No two leases carry the same token, nobody gets what is not ready, and a lost claim comes to light.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Payload, Priority, SessionId, State};
use omniq_store::{Beat, Finished, Held, Session, TaskStore as _, Want};

use crate::faulty::Faulty;
use crate::kit::{Kit, LEASE, TICK, WHILE, again, lane, release, success};

pub(crate) async fn the_highest_priority_comes_first_then_arrival(kit: &Kit) {
    let mut expected = Vec::new();
    for value in [0, 9, -9, 3, 9, 0, -9] {
        let priority = Priority::new(value).unwrap();
        let id = kit.enqueue_with(|task| task.priority = priority).await;
        expected.push((std::cmp::Reverse(value), id));
    }
    expected.sort_by_key(|(value, _)| *value); // stable: arrival stays the order within a priority
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    let session = kit.session().await;
    let mut claimed = kit.claim_ids(&session, 3).await;
    claimed.extend(kit.claim_ids(&session, 9).await);
    assert_eq!(claimed, expected);
}

pub(crate) async fn a_claim_takes_at_most_what_it_wants(kit: &Kit) {
    for _ in 0..5 {
        kit.enqueue_plain().await;
    }
    let session = kit.session().await;
    for (max, expected) in [(0, 0), (2, 2), (2, 2), (2, 1), (2, 0)] {
        assert_eq!(kit.claim(&session, max).await.len(), expected);
    }
    assert!(kit.store.claim(&session, &[]).await.unwrap().is_empty());
}

pub(crate) async fn a_want_ends_where_it_would_have_more_bytes_than_it_may(kit: &Kit) {
    // One that would still fit stands behind the one that does not: the order is kept.
    let sizes = [70_000, 1, 1, 70_000, 1];
    let tasks = sizes.map(|size| kit.task_with(|task| task.args = Payload::raw(vec![7; size])));
    let bytes: Vec<_> = tasks.iter().map(|task| task.encode().len()).collect();
    for task in tasks {
        kit.enqueue(task).await;
    }
    let session = kit.session().await;
    let three = bytes[0] + bytes[1] + bytes[2];
    // Each as often as asked, all given back in between.
    for (limit, max, expected) in [
        (0, 9, 1), // the first whatever its size
        (bytes[0], 9, 1),
        (three - 1, 9, 2),
        (three, 9, 3),
        (three + bytes[3] - 1, 9, 3),
        (three + bytes[3], 9, 4),
        (three + bytes[3], 2, 2),
        (usize::MAX, 9, 5),
    ] {
        let want = Want { bytes: limit, ..kit.want(max) };
        let leases = kit.store.claim(&session, &[want]).await.unwrap();
        assert_eq!(leases.len(), expected, "{max} tasks of {limit} bytes");
        for (lease, bytes) in leases.iter().zip(&bytes) {
            assert_eq!(lease.task.as_ref().unwrap().encode().len(), *bytes, "in their order");
            kit.finish(&session, lease, release(Duration::ZERO)).await;
        }
    }
    // Each want of a call has its own bound and its own first, also of one lane.
    let wants = [0, 0, three - 1].map(|bytes| Want { bytes, ..kit.want(9) });
    let leases = kit.store.claim(&session, &wants).await.unwrap();
    let of = |want: &Want| leases.iter().filter(|l| l.token.nonce == want.nonce).count();
    assert_eq!(wants.each_ref().map(of), [1, 1, 2]);
    assert_eq!(kit.claim(&session, 9).await.len(), 1);
    // What expires on the way makes nothing behind it a first.
    let first = kit.task();
    let limit = first.encode().len();
    kit.enqueue(first).await;
    kit.enqueue_with(|task| task.ttl = Some(TICK.into())).await;
    kit.enqueue_plain().await;
    kit.advance(TICK);
    let want = || Want { bytes: limit, ..kit.want(9) };
    assert_eq!(kit.store.claim(&session, &[want()]).await.unwrap().len(), 1);
    assert_eq!(kit.store.claim(&session, &[want()]).await.unwrap().len(), 1);
}

pub(crate) async fn wants_are_served_in_turn_each_with_its_nonce(kit: &Kit) {
    let (media, mail) = (lane("default", "media"), lane("default", "mail"));
    let here = kit.enqueue_with(|task| task.lane = media.clone()).await;
    let there = kit.enqueue_with(|task| task.lane = mail.clone()).await;
    let third = kit.enqueue_with(|task| task.lane = media.clone()).await;
    let wants = [
        Want::new(mail, 5, 11),
        Want::new(lane("default", "empty"), 5, 12),
        Want::new(media.clone(), 1, 13),
        Want::new(media, 1, 14),
    ];
    let leases = kit.store.claim(&kit.session().await, &wants).await.unwrap();
    let got: Vec<_> = leases.iter().map(|lease| (lease.id, lease.token.nonce)).collect();
    assert_eq!(got, [(there, 11), (here, 13), (third, 14)]);
}

pub(crate) async fn a_lease_says_what_and_which_attempt(kit: &Kit) {
    let task = kit.task();
    let arrived = kit.now();
    let id = kit.enqueue(task.clone()).await;
    kit.advance(WHILE);
    let session = kit.session().await;
    let want = kit.want(1);
    let lease =
        kit.store.claim(&session, std::slice::from_ref(&want)).await.unwrap().pop().unwrap();
    assert_eq!((lease.id, lease.attempt, lease.crashes, lease.created), (id, 1, 0, arrived));
    assert_eq!((lease.token.fence, lease.token.nonce), (1, want.nonce));
    assert_eq!(*lease.task.unwrap(), task);
    let head = kit.head(id).await;
    assert_eq!(head.state, State::Running);
    assert_eq!(head.lease, Some((session.id, lease.token)));
    assert_eq!(head.started, Some(kit.now()));
}

pub(crate) async fn every_claim_burns_a_fence_and_counts_an_attempt(kit: &Kit) {
    let id = kit.enqueue_plain().await;
    let session = kit.session().await;
    let mut fences = Vec::new();
    for expected_attempt in [1, 1, 2] {
        let lease = kit.claim_one(&session).await;
        assert_eq!((lease.id, lease.attempt), (id, expected_attempt));
        fences.push(lease.token.fence);
        // The first claim is given back, the second fails: only that one counts.
        let how = if fences.len() == 1 { release(LEASE) } else { again(LEASE) };
        kit.finish(&session, &lease, how).await;
        kit.advance(LEASE);
        kit.store.heartbeat(&session, Held::default()).await.unwrap();
        kit.store.promote(9).await.unwrap();
    }
    assert_eq!(fences, [1, 2, 3]);
}

pub(crate) async fn fences_go_on_for_ever(kit: &Kit) {
    let session = kit.session().await;
    kit.enqueue_plain().await;
    for fence in 1..=40 {
        let lease = kit.claim_one(&session).await;
        assert_eq!((lease.token.fence, lease.attempt), (fence, 1));
        kit.finish(&session, &lease, release(std::time::Duration::ZERO)).await;
    }
}

pub(crate) async fn what_is_ready_again_keeps_its_place(kit: &Kit) {
    let first = kit.enqueue_plain().await;
    let second = kit.enqueue_plain().await;
    let session = kit.session().await;
    for how in [release(std::time::Duration::ZERO), again(std::time::Duration::ZERO)] {
        let lease = kit.claim_one(&session).await;
        assert_eq!(lease.id, first);
        assert_eq!(kit.finish(&session, &lease, how).await, Finished::Applied(State::Ready));
    }
    assert_eq!(kit.claim_ids(&session, 9).await, [first, second]);
}

pub(crate) async fn what_waits_is_never_leased(kit: &Kit) {
    let parent = kit.enqueue_plain().await;
    kit.enqueue_with(|task| task.after = vec![parent]).await;
    kit.enqueue_with(|task| task.delay = WHILE.into()).await;
    let session = kit.session().await;
    assert_eq!(kit.claim_ids(&session, 9).await, [parent]);
    assert!(kit.claim_ids(&session, 9).await.is_empty());
}

pub(crate) async fn two_sessions_never_hold_one_task(kit: &Kit) {
    let ids: HashSet<_> = {
        let tasks: Vec<_> = (0..100).map(|_| kit.task()).collect();
        let ids = tasks.iter().map(|task| task.id).collect();
        kit.store.enqueue(tasks).await.unwrap();
        ids
    };
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let kit = kit.clone();
        claimers.spawn(async move {
            let session = kit.session().await;
            let mut mine = Vec::new();
            loop {
                let leases = kit.claim_ids(&session, 3).await;
                if leases.is_empty() {
                    return mine;
                }
                mine.extend(leases);
            }
        });
    }
    let claimed: Vec<_> = claimers.join_all().await.concat();
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), ids);
}

pub(crate) async fn a_dead_session_gets_nothing(kit: &Kit) {
    kit.enqueue_plain().await;
    let closed = kit.session().await;
    kit.store.close_session(&closed).await.unwrap();
    let never = Session { id: SessionId::new(kit.fresh()), lease: LEASE };
    let late = kit.session().await;
    kit.advance(LEASE + TICK);
    for session in [closed, never, late] {
        assert!(kit.claim(&session, 9).await.is_empty(), "{session:?}");
    }
    assert_eq!(kit.claim(&kit.session().await, 9).await.len(), 1);
}

pub(crate) async fn what_is_past_its_time_to_live_is_expired_and_not_leased(kit: &Kit) {
    let old = kit.enqueue_with(|task| task.ttl = Some(WHILE.into())).await;
    let fresh = kit.enqueue_plain().await;
    kit.advance(WHILE + TICK);
    assert_eq!(kit.claim_ids(&kit.session().await, 1).await, [fresh]);
    assert_eq!(kit.state(old).await, State::Expired);
}

pub(crate) async fn a_lost_claim_is_noticed_and_put_back(kit: &Kit) {
    let faulty = Arc::new(Faulty::new(kit.store.clone()));
    let id = kit.enqueue_plain().await;
    let session = kit.session().await;
    faulty.lose_answer("claim");
    faulty.claim(&session, &[kit.want(1)]).await.unwrap_err();
    assert_eq!(kit.state(id).await, State::Running, "it was claimed, nobody knows");

    // The session says that it holds nothing; the store knows better.
    let beat = kit.store.heartbeat(&session, Held::default()).await.unwrap();
    assert_eq!(beat, Beat::Alive { matches: false, cancel: vec![] });
    let freed = kit.store.reconcile(&session, &[]).await.unwrap();

    assert_eq!(freed.len(), 1);
    assert_eq!((freed[0].id, freed[0].from, freed[0].to), (id, State::Running, State::Ready));
    let beat = kit.store.heartbeat(&session, Held::default()).await.unwrap();
    assert_eq!(beat, Beat::Alive { matches: true, cancel: vec![] });
    let lease = kit.claim_one(&session).await;
    assert_eq!((lease.attempt, lease.token.fence), (1, 2), "the lost attempt does not count");
    assert!(kit.store.reconcile(&session, &[(id, lease.token)]).await.unwrap().is_empty());
}

pub(crate) async fn reconcile_frees_only_what_the_session_does_not_hold(kit: &Kit) {
    for _ in 0..4 {
        kit.enqueue_plain().await;
    }
    let (session, other) = (kit.session().await, kit.session().await);
    let mine = kit.claim(&session, 3).await;
    let theirs = kit.claim_one(&other).await;
    let held = [(mine[0].id, mine[0].token), (mine[2].id, mine[2].token)];
    let freed = kit.store.reconcile(&session, &held).await.unwrap();
    assert_eq!(freed.iter().map(|moved| moved.id).collect::<Vec<_>>(), [mine[1].id]);
    assert_eq!(kit.state(theirs.id).await, State::Running);
    assert_eq!(kit.finish(&session, &mine[1], success(b"late")).await, Finished::Stale);
    for lease in [&mine[0], &mine[2]] {
        let finished = kit.finish(&session, lease, success(b"held")).await;
        assert_eq!(finished, Finished::Applied(State::Succeeded));
    }
}

pub(crate) async fn a_lease_survives_reopening(kit: &Kit) {
    kit.enqueue_plain().await;
    let session = kit.session().await;
    let lease = kit.claim_one(&session).await;
    let kit = kit.reopen().await;
    assert!(kit.claim(&session, 1).await.is_empty(), "it is leased still");
    let held = Held::of([&(lease.id, lease.token)]);
    let beat = kit.store.heartbeat(&session, held).await.unwrap();
    assert_eq!(beat, Beat::Alive { matches: true, cancel: vec![] });
    let finished = kit.finish(&session, &lease, success(b"done")).await;
    assert_eq!(finished, Finished::Applied(State::Succeeded));
}

pub(crate) async fn two_processes_never_hold_one_task(kit: &Kit) {
    let beside = kit.beside().await;
    let tasks: Vec<_> = (0..60).map(|_| kit.task()).collect();
    kit.store.enqueue(tasks).await.unwrap();
    let mut claimers = tokio::task::JoinSet::new();
    for kit in [kit.clone(), beside] {
        claimers.spawn(async move {
            let session = kit.session().await;
            let mut mine = Vec::new();
            loop {
                let leases = kit.claim_ids(&session, 4).await;
                if leases.is_empty() {
                    return mine;
                }
                mine.extend(leases);
            }
        });
    }
    let claimed = claimers.join_all().await.concat();
    assert_eq!(claimed.len(), 60);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), 60);
}
