//! What the tests share: a store, a sandbox, guests in text, and waits that watch the store instead of the clock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use omniq_model::{
    Digest, Format, Module, ModuleRef, Name, Payload, Task, TaskId, TaskResult, Timestamp, Value,
};
use omniq_sandbox::{Allocation, Sandbox, inspect};
use omniq_store::memory::{MemoryEvents, MemoryModules, MemoryTasks};
use omniq_store::{
    Clock, Info, Interest, ManualClock, ModuleStore, Select, SystemClock, TaskStore,
};
use tokio::task::JoinHandle;

use super::flaky::Flaky;
use crate::ends::{Ended, Ends};
use crate::event::Sink;
use crate::stores::Stores;
use crate::worker::{Worker, WorkerHandle, WorkerOptions};

/// Adds.
pub const ADD: &str =
    "(func (export \"run\") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))";
/// Never ends.
pub const SPIN: &str =
    "(func (export \"run\") (result i32) (loop $again (br $again)) (i32.const 0))";
/// Traps.
pub const TRAP: &str = "(func (export \"run\") (result i32) unreachable)";
/// Returns the error 7.
pub const FAIL: &str = "(func (export \"run\") (result i32)
    (i32.store8 (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 7)) (i32.const 0))";
/// Returns as many bytes as it is told to.
pub const BYTES: &str = "(func (export \"run\") (param i32) (result i32)
    (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))";

pub const ADD_TYPE: &str = "(param \"a\" s32) (param \"b\" s32) (result s32)";
pub const FAIL_TYPE: &str = "(result (result u32 (error u32)))";
pub const NUMBER_TYPE: &str = "(result u32)";
pub const BYTES_TYPE: &str = "(param \"size\" u32) (result (list u8))";

/// The longest that any wait of a test takes before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A component that exports `run`.
pub fn component(body: &str, ty: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
             (core module $code (memory (export "memory") 2) {body})
             (core instance $code (instantiate $code))
             (func (export "run") {ty}
               (canon lift (core func $code "run") (memory (core memory $code "memory")))))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub fn sandbox() -> Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    let open = || {
        let pool = Allocation::Pooled { instances: 32 };
        Sandbox::builder().allocation(pool).open().expect("the engine runs here")
    };
    SANDBOX.get_or_init(open).clone()
}

/// A queue without its face.
pub struct Kit {
    pub tasks: Arc<Flaky>,
    pub modules: MemoryModules,
    pub stores: Stores,
    pub ends: Ends,
    pub sink: Sink,
    watcher: JoinHandle<()>,
    next: std::cell::Cell<u64>,
}

impl Drop for Kit {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Kit {
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::default()))
    }

    pub fn manual() -> (Self, ManualClock) {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        (Self::with_clock(Arc::new(clock.clone())), clock)
    }

    fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let tasks = Arc::new(Flaky::new(MemoryTasks::new(clock)));
        let modules = MemoryModules::new();
        let ends = Ends::new();
        let (watched, store) = (ends.clone(), Arc::clone(&tasks) as Arc<dyn TaskStore>);
        let watcher = tokio::spawn(async move { watched.watch(store).await });
        let stores = Stores {
            tasks: Arc::clone(&tasks) as _,
            results: None,
            events: None,
            modules: Arc::new(modules.clone()),
            inline_max: 8 << 10,
        };
        let next = std::cell::Cell::new(0);
        Self { tasks, modules, stores, ends, sink: Sink::none(), watcher, next }
    }

    pub fn with_events(&mut self) -> MemoryEvents {
        let events = MemoryEvents::new();
        self.stores.events = Some(Arc::new(events.clone()));
        self.sink = Sink::start(self.stores.events.clone());
        events
    }

    pub async fn push(&self, bytes: Vec<u8>) -> ModuleRef {
        let module = reference(&bytes);
        let described = Module {
            name: module.name.clone(),
            version: module.version.clone(),
            digest: module.digest,
            size: bytes.len() as u64,
            functions: Vec::new(),
            command: false,
            capabilities: Vec::new(),
            pushed: Timestamp::default(),
            unknown: Default::default(),
        };
        self.modules.push(described, bytes).await.unwrap();
        module
    }

    /// A task of `run`, with arguments in CBOR.
    pub fn task(&self, module: &ModuleRef, args: &[u8]) -> Task {
        self.next.set(self.next.get() + 1);
        let id = TaskId::derived(&[&self.next.get().to_be_bytes()]);
        Task::new(id, module.clone(), "run", Payload::cbor(args))
    }

    pub async fn enqueue(&self, task: Task) -> TaskId {
        let id = task.id;
        self.tasks.enqueue(vec![task]).await.unwrap();
        id
    }

    pub async fn start(&self, options: WorkerOptions) -> WorkerHandle {
        let (ends, sink) = (self.ends.clone(), self.sink.clone());
        Worker::start(self.stores.clone(), sandbox(), options, ends, sink).await.unwrap()
    }

    pub async fn info(&self, id: TaskId) -> Info {
        self.tasks.get(&[id]).await.unwrap().remove(0).unwrap()
    }

    /// Waits until the task is as wanted.
    pub async fn until(&self, id: TaskId, wanted: impl Fn(&Info) -> bool) -> Info {
        self.until_all(&[id], |infos| wanted(&infos[0])).await.remove(0)
    }

    pub async fn until_all(&self, ids: &[TaskId], wanted: impl Fn(&[Info]) -> bool) -> Vec<Info> {
        let mut last = None;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let (work, ends) =
                    (self.tasks.changes(Interest::Work), self.tasks.changes(Interest::Ends));
                let infos: Vec<Info> =
                    self.tasks.get(ids).await.unwrap().into_iter().flatten().collect();
                if wanted(&infos) {
                    return infos;
                }
                last = infos.into_iter().next();
                // A claim is no change anybody is told of: a short patience looks for those.
                let patience = Duration::from_millis(10);
                tokio::select! {
                    _ = self.tasks.changed(Interest::Work, work, patience) => {}
                    _ = self.tasks.changed(Interest::Ends, ends, patience) => {}
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("what is waited for never came: {last:?}"))
    }

    /// Waits until so many guests of the worker run. A task counts as running from its claim on, also while its module
    /// is still being loaded.
    pub async fn until_running(&self, worker: &WorkerHandle, count: u64) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while worker.stats().running < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.expect("the guests begin");
    }

    /// Waits for the end of the task, as a handle does.
    pub async fn end(&self, id: TaskId) -> Ended {
        let ended = tokio::time::timeout(PATIENCE, self.ends.wait(id)).await;
        ended.expect("the task ends").expect("the store has the task")
    }

    pub async fn result(&self, id: TaskId) -> TaskResult {
        self.end(id).await;
        self.info(id).await.head.result.unwrap()
    }

    pub async fn cancel(&self, id: TaskId) {
        let filter = omniq_store::Filter { ids: vec![id], ..Default::default() };
        self.tasks.cancel(&Select { filter, max: 10 }).await.unwrap();
    }
}

pub fn reference(bytes: &[u8]) -> ModuleRef {
    use sha2::Digest as _;
    let digest = Digest::from_sha256(sha2::Sha256::digest(bytes).into());
    if let Ok(inspection) = inspect::inspect(bytes, &inspect::Rules::default()) {
        assert_eq!(inspection.digest, digest);
    }
    let version: Name = "1.0.0".parse().unwrap();
    let name = digest.to_hex()[..12].parse().unwrap();
    ModuleRef { digest, name, version, unknown: Default::default() }
}

/// A small worker with a pool of its own kind.
pub fn options(pool: omniq_model::Pool) -> WorkerOptions {
    WorkerOptions { pool, slots: 16, threads: 2, ..WorkerOptions::default() }
}

pub fn thread() -> WorkerOptions {
    options(omniq_model::Pool::Thread)
}

/// The bytes of a result's value, in the record.
pub fn inline(result: &TaskResult) -> &[u8] {
    match &result.value {
        Some(Value::Inline(payload)) => {
            assert!(matches!(payload.format, Format::Cbor | Format::Raw));
            &payload.bytes
        }
        other => panic!("{other:?} in {result:?}"),
    }
}

/// The kind of error of a result.
pub fn kind(result: &TaskResult) -> &str {
    result.error.as_ref().map_or("none", |error| &error.kind)
}
