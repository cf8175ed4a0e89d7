//! Stores that go away, and stores that do not answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::State;
use omniq_store::TaskStore as _;

use super::kit::*;
use crate::worker::{WorkerHandle, WorkerOptions};

/// Some tens of milliseconds.
const SLOW: &str = "(func (export \"run\") (result i32) (local i32)
    (loop $again
      (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get 0) (i32.const 50000000))))
    (local.get 0))";

#[tokio::test]
async fn a_store_that_never_answers_does_not_keep_a_worker_from_stopping() {
    for running in [0_u64, 2] {
        let kit = Kit::new();
        let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
        // The longest lease there may be: no heartbeat is waited for either.
        let worker =
            kit.start(WorkerOptions { lease: Duration::from_secs(86_400), ..thread() }).await;
        for _ in 0..running {
            kit.enqueue(kit.task(&spin, &[0x80])).await;
        }
        kit.until_running(&worker, running).await;
        kit.tasks.is_hung.store(true, Ordering::Release);
        // The worker asks for these, and waits for an answer from then on.
        let more = kit.task(&spin, &[0x80]);
        kit.tasks.inner.enqueue(vec![more]).await.unwrap();
        if running == 0 {
            kit.tasks.until_asked().await;
        }
        let grace = Duration::from_millis(300);
        let asked = Instant::now();
        let stopped = tokio::time::timeout(Duration::from_secs(60), worker.stop(grace)).await;
        stopped.expect("it stops");
        assert!(asked.elapsed() <= grace + WorkerHandle::BEYOND_GRACE, "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn what_ended_while_the_store_was_away_is_committed_by_its_own_token() {
    let kit = Kit::new();
    let slow = kit.push(component(SLOW, NUMBER_TYPE)).await;
    let lease = Duration::from_secs(2);
    // Its own keeper sees the lease run out, and must not take the tasks away before the worker has spoken.
    let worker = kit.start(WorkerOptions { lease, ..thread() }).await;
    let warm = kit.enqueue(kit.task(&slow, &[0x80])).await;
    kit.end(warm).await;
    let ids =
        [kit.enqueue(kit.task(&slow, &[0x80])).await, kit.enqueue(kit.task(&slow, &[0x80])).await];
    kit.until_running(&worker, 2).await;
    kit.tasks.is_down.store(true, Ordering::Release);
    let before = kit.tasks.claims.load(Ordering::Acquire);
    // By then the pause before the next try to commit is much longer than the keeper's.
    tokio::time::sleep(Duration::from_millis(7500)).await;
    assert_eq!((worker.stats().running, worker.stats().waiting), (0, 2), "they ended meanwhile");
    assert!(kit.tasks.claims.load(Ordering::Acquire) - before < 10, "it is not asked on and on");
    kit.tasks.is_down.store(false, Ordering::Release);
    for id in ids {
        assert_eq!(kit.end(id).await.state, State::Succeeded);
        let head = kit.info(id).await.head;
        assert_eq!((head.fence, head.attempt, head.crashes), (1, 1, 0));
    }
    // It works on, under a session of its own.
    let next = kit.enqueue(kit.task(&slow, &[0x80])).await;
    assert_eq!(kit.end(next).await.state, State::Succeeded);
    assert_eq!(worker.stop(Duration::from_secs(5)).await.stale, 0);
}
