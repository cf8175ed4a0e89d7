//! What a worker holds, and how often it asks, stays within bounds whatever the stores do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use omniq_model::{Digest, Module, Name, Payload, Pool, State, TaskId};
use omniq_store::memory::{MemoryModules, MemoryResults};
use omniq_store::{
    Error, EventFilter, EventStore, ModuleStore, Pushed, ResultKey, ResultStore, StagedResult,
    SystemClock, TaskStore,
};
use tokio::sync::Semaphore;

use super::kit::*;
use crate::worker::{WorkerHandle, WorkerOptions};

/// Takes no results until it is told to.
#[derive(Debug)]
struct Stubborn {
    inner: MemoryResults,
    takes: AtomicBool,
}

#[async_trait]
impl ResultStore for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    async fn put(&self, results: Vec<StagedResult>) -> omniq_store::Result<()> {
        if self.takes.load(Ordering::Acquire) {
            return self.inner.put(results).await;
        }
        Err(Error::unavailable("stubborn", "keep results", "it does not want to"))
    }

    async fn get(&self, keys: &[ResultKey]) -> omniq_store::Result<Vec<Option<Payload>>> {
        self.inner.get(keys).await
    }

    async fn remove(&self, tasks: &[TaskId]) -> omniq_store::Result<()> {
        self.inner.remove(tasks).await
    }

    async fn purge(&self, max: usize) -> omniq_store::Result<usize> {
        self.inner.purge(max).await
    }

    async fn close(&self) -> omniq_store::Result<()> {
        self.inner.close().await
    }
}

/// Gives no bytes before its gate is open.
#[derive(Debug)]
struct SlowModules {
    inner: MemoryModules,
    gate: Semaphore,
    /// So many calls panic.
    breaks: AtomicU32,
}

#[async_trait]
impl ModuleStore for SlowModules {
    fn name(&self) -> &'static str {
        "slow"
    }

    async fn push(&self, module: Module, bytes: Vec<u8>) -> omniq_store::Result<Pushed> {
        self.inner.push(module, bytes).await
    }

    async fn find(
        &self,
        name: &Name,
        version: Option<&Name>,
    ) -> omniq_store::Result<Option<Module>> {
        self.inner.find(name, version).await
    }

    async fn bytes(&self, digest: &Digest) -> omniq_store::Result<Option<Vec<u8>>> {
        let _open = self.gate.acquire().await.expect("nobody closes it");
        let breaks = self
            .breaks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        assert!(breaks.is_err(), "a mistake in the module store");
        self.inner.bytes(digest).await
    }

    async fn list(&self) -> omniq_store::Result<Vec<Module>> {
        self.inner.list().await
    }

    async fn remove(&self, name: &Name, version: &Name) -> omniq_store::Result<bool> {
        self.inner.remove(name, version).await
    }

    async fn close(&self) -> omniq_store::Result<()> {
        self.inner.close().await
    }
}

/// How many tasks the worker holds once it claims no more for a second.
async fn held_at_rest(worker: &WorkerHandle) -> u64 {
    let (mut claimed, mut same) = (0, 0);
    while same < 40 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let now = worker.stats().claimed;
        same = if now == claimed && now > 0 { same + 1 } else { 0 };
        claimed = now;
    }
    let stats = worker.stats();
    stats.running + stats.waiting
}

#[tokio::test]
async fn a_result_store_that_takes_nothing_does_not_fill_the_memory() {
    const MEBIBYTE: usize = 1 << 20;
    let mut kit = Kit::new();
    let results = Arc::new(Stubborn {
        inner: MemoryResults::new(Arc::new(SystemClock::default())),
        takes: AtomicBool::new(false),
    });
    kit.stores.results = Some(Arc::clone(&results) as _);
    let body = "(func (export \"run\") (result i32) (drop (memory.grow (i32.const 256)))
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 8388608)) (i32.const 0))";
    let large = kit.push(component(body, "(result (list u8))")).await;
    let worker = kit.start(WorkerOptions { slots: 2, batch: 1, ..thread() }).await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(kit.enqueue(kit.task(&large, &[0x80])).await);
    }
    let at_rest = tokio::time::timeout(Duration::from_secs(60), held_at_rest(&worker));
    let held = at_rest.await.unwrap() as usize;
    // Two bounds of 64 MiB, each passed by the last that came in, and what ran by then.
    assert!(held * 8 * MEBIBYTE <= 2 * 80 * MEBIBYTE + 4 * 8 * MEBIBYTE, "{held} tasks");
    results.takes.store(true, Ordering::Release);
    for id in ids {
        assert_eq!(kit.end(id).await.state, State::Succeeded);
    }
    worker.stop(Duration::ZERO).await;
}

/// Gives 8 MiB as its error.
const LARGE_ERROR: &str = "(func (export \"run\") (result i32) (drop (memory.grow (i32.const 256)))
    (i32.store8 (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 16))
    (i32.store (i32.const 8) (i32.const 8388608)) (i32.const 0))";

#[tokio::test]
async fn errors_that_cannot_be_committed_do_not_fill_the_memory() {
    const MEBIBYTE: usize = 1 << 20;
    let mut kit = Kit::new();
    let events = kit.with_events();
    let failing = kit.push(component(LARGE_ERROR, "(result (result (error (list u8))))")).await;
    let mut ids = Vec::new();
    for number in 0..60 {
        let mut task = kit.task(&failing, &[0x80]);
        task.retry.attempts = 1 + number % 2;
        task.retry.backoff.max = Default::default();
        ids.push(kit.enqueue(task).await);
    }
    kit.tasks.refused_finishes.store(u32::MAX, Ordering::Release);
    let worker = kit.start(WorkerOptions { slots: 2, batch: 1, ..thread() }).await;
    let at_rest = tokio::time::timeout(Duration::from_secs(60), held_at_rest(&worker));
    let held = at_rest.await.unwrap() as usize;
    // What waits, what is being committed, each passed by the last that came in, and what ran by then.
    assert!(
        held * 8 * MEBIBYTE <= 80 * MEBIBYTE + 24 * MEBIBYTE + 4 * 8 * MEBIBYTE,
        "{held} tasks"
    );
    kit.tasks.refused_finishes.store(0, Ordering::Release);
    for id in ids {
        let error = kit.result(id).await.error.unwrap();
        assert!(error.value.unwrap().bytes.len() > 8 * MEBIBYTE, "the record has it all");
    }
    worker.stop(Duration::ZERO).await;
    kit.sink.close().await;
    let logged = events.query(&EventFilter::default(), None, 1000).await.unwrap();
    let errors: Vec<_> = logged.iter().filter_map(|(_, event)| event.error.as_ref()).collect();
    assert_eq!(errors.len(), 60 + 30);
    assert!(errors.iter().all(|error| error.kind == "err-result" && error.value.is_none()));
}

#[tokio::test]
async fn large_arguments_do_not_fill_the_memory() {
    const SIZE: usize = 100_000;
    // Takes bytes, and never ends.
    const TAKE: &str = r#"(component
        (core module $code (memory (export "memory") 2)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
          (func (export "run") (param i32 i32) (loop $again (br $again))))
        (core instance $code (instantiate $code))
        (func (export "run") (param "bytes" (list u8))
          (canon lift (core func $code "run") (memory (core memory $code "memory"))
            (realloc (core func $code "realloc")))))"#;
    let kit = Kit::new();
    let take = kit.push(wat::parse_str(TAKE).unwrap()).await;
    let mut args = vec![0x81, 0x5a];
    args.extend((SIZE as u32).to_be_bytes());
    args.resize(6 + SIZE, 7);
    let mut ids = Vec::new();
    // In lanes of their own: the bound is one over all of them.
    for number in 0..40 {
        let mut task = kit.task(&take, &args);
        task.lane.queue = format!("q{}", number % 4).parse().unwrap();
        ids.push(kit.enqueue(task).await);
    }
    let options = WorkerOptions { slots: 32, claim_bytes: 5 * SIZE, ..options(Pool::Async) };
    let worker = kit.start(options).await;
    let at_rest = tokio::time::timeout(Duration::from_secs(60), held_at_rest(&worker));
    let held = at_rest.await.unwrap();
    // A lane gives its first one whatever is left.
    assert!((4..=8).contains(&held), "{held} tasks of {SIZE} bytes");
    // What ends makes room for the next.
    for id in &ids {
        kit.cancel(*id).await;
    }
    for id in ids {
        assert_eq!(kit.end(id).await.state, State::Cancelled);
    }
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn tasks_that_waited_for_their_module_go_back_if_they_are_too_many() {
    let mut kit = Kit::new();
    let slow = Arc::new(SlowModules {
        inner: kit.modules.clone(),
        gate: Semaphore::new(0),
        breaks: AtomicU32::new(0),
    });
    kit.stores.modules = Arc::clone(&slow) as _;
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(kit.enqueue(kit.task(&spin, &[0x80])).await);
    }
    let worker = kit.start(WorkerOptions { slots: 2, ..thread() }).await;
    // Meanwhile it claims on now and then, for what stands behind those that wait.
    kit.until_all(&ids, |infos| infos.iter().filter(|info| info.head.fence > 0).count() >= 6).await;
    slow.gate.add_permits(1);
    kit.until_running(&worker, 2).await;
    kit.until_all(&ids, |infos| {
        infos.iter().filter(|info| info.head.state == State::Running).count() == 2
    })
    .await;
    worker.stop(Duration::ZERO).await;
    assert_eq!(kit.info(ids[199]).await.head.attempt, 0);
}

#[tokio::test]
async fn a_store_that_gives_nothing_of_what_it_says_is_ready_is_not_asked_on_and_on() {
    let (kit, clock) = Kit::manual();
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let worker = kit.start(WorkerOptions { keeper: false, ..thread() }).await;
    // The session is over, and the worker does not know before its next heartbeat.
    clock.advance(Duration::from_secs(60));
    let before = kit.tasks.claims.load(Ordering::Acquire);
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let claims = kit.tasks.claims.load(Ordering::Acquire) - before;
    assert!((1..200).contains(&claims), "{claims} claims in a second");
    assert_eq!(inline(&kit.result(id).await), [15]);
    worker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_waits_behind_slow_tasks_is_given_back_once_and_run_by_others() {
    let kit = Kit::new();
    let spin = kit.push(component(SPIN, NUMBER_TYPE)).await;
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let busy = kit.start(WorkerOptions { keeper: false, ..thread() }).await;
    // Both modules are loaded, and quick ones ended last, so that much is fetched in advance.
    let first = kit.enqueue(kit.task(&spin, &[0x80])).await;
    kit.until_running(&busy, 1).await;
    kit.cancel(first).await;
    kit.end(first).await;
    for _ in 0..60 {
        kit.end(kit.enqueue(kit.task(&add, &[0x82, 1, 1])).await).await;
    }
    let slow: Vec<_> = (0..2).map(|_| kit.task(&spin, &[0x80])).collect();
    let quick: Vec<_> = (0..50).map(|_| kit.task(&add, &[0x82, 5, 10])).collect();
    let ids: Vec<_> = quick.iter().map(|task| task.id).collect();
    kit.tasks.pause(&Default::default(), true).await.unwrap();
    kit.tasks.enqueue(slow.into_iter().chain(quick).collect()).await.unwrap();
    kit.tasks.pause(&Default::default(), false).await.unwrap();
    kit.until_running(&busy, 2).await;
    kit.until_all(&ids, |infos| infos.iter().all(|info| info.head.fence > 0)).await;

    let idle = kit.start(WorkerOptions { keeper: false, ..thread() }).await;
    let infos =
        kit.until_all(&ids, |infos| infos.iter().all(|info| info.head.state.is_terminal())).await;
    let is_good = |info: &omniq_store::Info| (info.head.attempt, info.head.fence) == (1, 2);
    assert!(infos.iter().all(is_good), "given back once, and uncounted: {:?}", infos[0].head);
    // Left alone with more of them, the busy one takes none that it cannot run.
    idle.stop(Duration::ZERO).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(kit.info(id).await.head.fence, 0);
    let stats = busy.stats();
    assert_eq!((stats.released, stats.running, stats.waiting), (50, 2, 0));
    busy.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_mistake_while_a_module_is_fetched_leaves_no_task_waiting_for_ever() {
    let mut kit = Kit::new();
    let (gate, breaks) = (Semaphore::new(1), AtomicU32::new(1));
    kit.stores.modules = Arc::new(SlowModules { inner: kit.modules.clone(), gate, breaks });
    let add = kit.push(component(ADD, ADD_TYPE)).await;
    let id = kit.enqueue(kit.task(&add, &[0x82, 1, 2])).await;
    let worker = kit.start(thread()).await;
    assert_eq!(kit.end(id).await.state, State::Succeeded);
    assert_eq!(kit.info(id).await.head.attempt, 1);
    worker.stop(Duration::ZERO).await;
}
