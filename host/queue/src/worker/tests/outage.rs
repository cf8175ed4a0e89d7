//! Stores that go away, and stores that do not answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use std::sync::Arc;

use async_trait::async_trait;
use omniq_model::{Payload, State, TaskId};
use omniq_store::memory::MemoryResults;
use omniq_store::{
    Error, Result, ResultKey, ResultStore, StagedResult, SystemClock, TaskStore as _,
};

use super::kit::*;
use crate::worker::{WorkerHandle, WorkerOptions};

/// A result store on a line so slow that nothing large gets through in time.
#[derive(Debug)]
struct Narrow {
    inner: MemoryResults,
    /// Results that it takes at once.
    most: usize,
    /// The size of those that it never takes.
    refused: usize,
}

#[async_trait]
impl ResultStore for Narrow {
    fn name(&self) -> &'static str {
        "narrow"
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        let is_refused = |result: &StagedResult| result.value.bytes.len() == self.refused;
        if results.len() > self.most || results.iter().any(is_refused) {
            return Err(Error::unavailable("narrow", "keep", std::io::Error::other("cut")));
        }
        self.inner.put(results).await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        self.inner.get(keys).await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        self.inner.remove(tasks).await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.inner.purge(max).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn values_that_are_too_many_or_refused_do_not_hold_up_the_others() {
    let mut kit = Kit::new();
    let inner = MemoryResults::new(Arc::new(SystemClock::default()));
    kit.stores.results = Some(Arc::new(Narrow { inner, most: 2, refused: 303 }));
    kit.stores.inline_max = 100;
    let bytes = kit.push(component(BYTES, BYTES_TYPE)).await;
    // Waits until all are there, so that they end together.
    kit.tasks.pause(&omniq_model::Lane::default(), true).await.unwrap();
    let refused = kit.enqueue(kit.task(&bytes, &[0x81, 0x19, 1, 44])).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(kit.enqueue(kit.task(&bytes, &[0x81, 0x18, 200])).await);
    }
    kit.tasks.pause(&omniq_model::Lane::default(), false).await.unwrap();
    let worker = kit.start(thread()).await;
    let ended =
        |infos: &[omniq_store::Info]| infos.iter().all(|info| info.head.state == State::Succeeded);
    kit.until_all(&ids, ended).await;
    assert_eq!(kit.info(refused).await.head.state, State::Running, "it is kept, and tried again");
    worker.stop(Duration::ZERO).await;
}

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

#[tokio::test]
async fn a_look_for_an_end_that_failed_is_made_again_soon() {
    let kit = Kit::new();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await;
    kit.cancel(id).await;
    tokio::task::yield_now().await; // the watcher waits for somebody to wait
    kit.tasks.is_down.store(true, Ordering::Release);
    let asked = Instant::now();
    let ended = kit.ends.wait(id);
    tokio::time::sleep(Duration::from_millis(100)).await;
    kit.tasks.is_down.store(false, Ordering::Release);
    assert_eq!(ended.await.unwrap().state, State::Cancelled);
    // Without a reason it would be looked for after five.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}
