//! Wake-ups: whoever waits for work or for an end hears of it, from this process and from others.

use std::time::Duration;

use omniq_model::Lane;
use omniq_store::{Changes, Interest};

use crate::kit::{Kit, LEASE, TICK, WHILE, again, success};

/// How long a wake-up may take before the case fails; nobody waits so long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that `act` is noticed by whoever is interested.
async fn notices(kit: &Kit, interest: Interest, act: impl Future) {
    let seen = kit.store.changes(interest);
    act.await;
    assert!(woken(kit, interest, seen).await > seen, "{interest:?} has gone up");
}

/// What has changed once something has, after `seen`; wakes for nothing do not count.
async fn woken(kit: &Kit, interest: Interest, seen: Changes) -> Changes {
    let wait = async {
        loop {
            let now = kit.store.changed(interest, seen, PATIENCE).await;
            if now > seen {
                return now;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the wake-up comes")
}

pub(crate) async fn whatever_may_make_work_is_noticed(kit: &Kit) {
    let session = kit.session().await;
    let work = Interest::Work;
    notices(kit, work, kit.enqueue_plain()).await;
    notices(kit, work, kit.enqueue_with(|task| task.delay = WHILE.into())).await;
    let lease = kit.claim_one(&session).await;
    notices(kit, work, kit.cancel(&[lease.id])).await;
    kit.finish(&session, &lease, success(b"done")).await;
    kit.enqueue_plain().await;
    let lease = kit.claim_one(&session).await;
    notices(kit, work, kit.finish(&session, &lease, again(WHILE))).await;
    kit.advance(WHILE);
    notices(kit, work, kit.store.promote(9)).await;
    kit.store.pause(&Lane::default(), true).await.unwrap();
    notices(kit, work, kit.store.pause(&Lane::default(), false)).await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    notices(kit, work, kit.reclaim()).await;
    let id = kit.enqueue_plain().await;
    kit.cancel(&[id]).await;
    notices(kit, work, kit.retry(&[id])).await;
}

pub(crate) async fn every_end_is_noticed(kit: &Kit) {
    let session = kit.session().await;
    let ends = Interest::Ends;
    kit.enqueue_plain().await;
    notices(kit, ends, kit.run_one(&session)).await;
    kit.enqueue_plain().await;
    notices(kit, ends, kit.fail_one(&session)).await;
    let id = kit.enqueue_plain().await;
    notices(kit, ends, kit.cancel(&[id])).await;
    kit.enqueue_with(|task| task.ttl = Some(TICK.into())).await;
    kit.advance(TICK);
    notices(kit, ends, kit.store.expire(9)).await;
    kit.enqueue_with(|task| task.retry.crashes = 0).await;
    kit.claim_one(&session).await;
    kit.advance(LEASE + TICK);
    notices(kit, ends, kit.reclaim()).await;
}

pub(crate) async fn a_child_that_is_released_is_noticed(kit: &Kit) {
    let session = kit.session().await;
    let parent = kit.enqueue_plain().await;
    kit.enqueue_with(|task| task.after = vec![parent]).await;
    let lease = kit.claim_one(&session).await;
    let end = kit.finish(&session, &lease, success(b"done"));
    notices(kit, Interest::Work, end).await;
}

pub(crate) async fn a_waiter_is_woken(kit: &Kit) {
    for interest in [Interest::Work, Interest::Ends] {
        let seen = kit.store.changes(interest);
        let mut waiters = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let kit = kit.clone();
            waiters.spawn(async move { woken(&kit, interest, seen).await });
        }
        tokio::task::yield_now().await;
        let id = kit.enqueue_plain().await;
        kit.cancel(&[id]).await;
        assert!(waiters.join_all().await.into_iter().all(|now| now > seen));
    }
}

pub(crate) async fn what_happened_before_the_wait_is_not_missed(kit: &Kit) {
    let seen = kit.store.changes(Interest::Work);
    kit.enqueue_plain().await;
    let now = kit.store.changed(Interest::Work, seen, PATIENCE).await;
    assert!(now > seen, "the wait is over before it begins");
}

pub(crate) async fn a_wait_ends_with_its_time(kit: &Kit) {
    let seen = kit.store.changes(Interest::Work);
    let wait = kit.store.changed(Interest::Work, seen, Duration::from_millis(10));
    let now = tokio::time::timeout(PATIENCE, wait).await.expect("it comes back");
    assert!(now >= seen);
}

pub(crate) async fn another_process_wakes_a_waiter(kit: &Kit) {
    let beside = kit.beside().await;
    for interest in [Interest::Work, Interest::Ends] {
        let seen = beside.store.changes(interest);
        let waiter = {
            let beside = beside.clone();
            tokio::spawn(async move { woken(&beside, interest, seen).await })
        };
        tokio::task::yield_now().await;
        let id = kit.enqueue_plain().await;
        kit.cancel(&[id]).await;
        assert!(waiter.await.unwrap() > seen, "{interest:?}");
    }
}
