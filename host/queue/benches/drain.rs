//! How many tasks a second one process takes, runs and settles, and how long a single one takes.
//!
//! `cargo bench -p omniq --bench drain [-- FILTER]` prints each figure beside its floor, measured in the same run: the
//! sandbox alone on all processors, and for SQLite the store alone. Rows: `memory`, `sqlite`, `latency`.
//! `OMNIQ_CLAIM_BATCH` sets the batch of the workers. Run as a test it runs a hundredth of the tasks, to see that nothing
//! has rotted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq::ends::Ends;
use omniq::event::Sink;
use omniq::worker::{Worker, WorkerOptions};
use omniq::{Digest, Name, Payload, Pool, Stores, TaskId};
use omniq_model::{Lane, Module, ModuleRef, SessionId, Task, TaskResult, Timestamp};
use omniq_sandbox::{Allocation, Call, Function, Sandbox};
use omniq_store::{
    End, How, Interest, Options, Want, WorkerInfo, open_events, open_modules, open_tasks,
};

/// A component that does nothing.
const NOOP: &str = r#"(component
    (core module $code (func (export "run")))
    (core instance $code (instantiate $code))
    (func (export "run") (canon lift (core func $code "run"))))"#;
const PROCESSORS_MOST: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let sandbox = Sandbox::builder()
        .allocation(Allocation::Pooled { instances: 200 })
        .open()
        .expect("the engine runs here");
    let bytes = wat::parse_str(NOOP).expect("is right");
    if let [first, url] = &args[..]
        && first == "--worker"
    {
        return runtime.block_on(work_for_others(url, &sandbox, &bytes));
    }
    let run = sandbox.load(&bytes).expect("loads").function("run").expect("is there");
    // Cargo says `--bench` to a benchmark, and nothing to one that it runs among the tests.
    let share = if args.iter().any(|arg| arg == "--bench") { 1 } else { 100 };
    let floor = raw(&run, Duration::from_secs(2) / share);
    println!("{:<44} {floor:>9.0}/s", "sandbox alone, all processors");
    let wants = |name: &str| filter.is_empty() || name.contains(&filter);
    for pool in [Pool::Thread, Pool::Async] {
        if wants("memory") {
            let bench = runtime.block_on(Bench::open("memory:", &sandbox, &bytes, pool));
            let rate = runtime.block_on(bench.flow(400_000 / u64::from(share)));
            report(&format!("memory, {pool}: enqueue, run, result"), rate, floor);
            let bench = runtime.block_on(Bench::open("memory:", &sandbox, &bytes, pool));
            let rate = runtime.block_on(bench.drain(400_000 / u64::from(share)));
            report(&format!("memory, {pool}: drain"), rate, floor);
        }
        if wants("sqlite") {
            let folder = tempfile::tempdir().expect("a folder");
            let url = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
            if pool == Pool::Thread {
                let rate =
                    runtime.block_on(store_alone(&url("raw.db"), 100_000 / u64::from(share)));
                println!("{:<44} {rate:>9.0}/s", "sqlite: claim and finish alone, by 500");
            }
            let bench = runtime.block_on(Bench::open(&url("tasks.db"), &sandbox, &bytes, pool));
            let rate = runtime.block_on(bench.drain(200_000 / u64::from(share)));
            report(&format!("sqlite, {pool}: drain"), rate, floor);
            let url = url("quiet-tasks.db");
            let mut bench = runtime.block_on(Bench::open(&url, &sandbox, &bytes, pool));
            bench.stores.events = None;
            let rate = runtime.block_on(bench.drain(200_000 / u64::from(share)));
            report(&format!("sqlite, {pool}: drain, no events"), rate, floor);
        }
    }
    if wants("latency") {
        for url in ["memory:", "sqlite:"] {
            let folder = tempfile::tempdir().expect("a folder");
            let url = match url {
                "sqlite:" => format!("sqlite:{}", folder.path().join("tasks.db").display()),
                other => other.to_owned(),
            };
            let bench = runtime.block_on(Bench::open(&url, &sandbox, &bytes, Pool::Async));
            let name = url.split(':').next().unwrap_or_default();
            latency(
                &format!("{name}, idle"),
                runtime.block_on(bench.single(u64::from(500 / share))),
            );
        }
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("tasks.db").display());
        let bench = runtime.block_on(Bench::open(&url, &sandbox, &bytes, Pool::Async));
        let times = runtime.block_on(bench.single_elsewhere(&url, u64::from(200 / share)));
        latency("sqlite, idle, between processes", times);
    }
}

fn latency(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what}: enqueue to result, p50 {half:.2?}, p99 {most:.2?}");
}

/// A worker in a process of its own, until its stdin ends.
async fn work_for_others(url: &str, sandbox: &Sandbox, bytes: &[u8]) {
    let bench = Bench::open(url, sandbox, bytes, Pool::Async).await;
    let worker = bench.start(&Ends::new(), &Sink::none()).await;
    let ended = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(ended).await.expect("waits").expect("stdin is readable");
    worker.stop(Duration::from_secs(5)).await;
}

/// Ids as producers make them: sorted by time.
fn id(number: u64) -> TaskId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    TaskId::new(Timestamp::from_millis(1_800_000_000_000 + (number / 100) as i64), random)
}

fn report(what: &str, rate: f64, floor: f64) {
    println!("{what:<44} {rate:>9.0}/s   {:.2} of the sandbox alone", rate / floor);
}

/// Calls a second on all processors with nothing around them.
fn raw(run: &Function, span: Duration) -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(PROCESSORS_MOST);
    let calls = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while began.elapsed() < span {
                    for _ in 0..100 {
                        run.call_blocking(&[0xa0], Call::default()).result.expect("runs");
                    }
                    calls.fetch_add(100, Ordering::Relaxed);
                }
            });
        }
    });
    calls.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

struct Bench {
    stores: Stores,
    sandbox: Sandbox,
    module: ModuleRef,
    pool: Pool,
}

impl Bench {
    async fn open(url: &str, sandbox: &Sandbox, bytes: &[u8], pool: Pool) -> Self {
        let options = Options::default();
        // Stores in memory of one name are shared: each bench has its own.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let url = if url == "memory:" { format!("memory:{number}") } else { url.to_owned() };
        let stores = Stores {
            tasks: open_tasks(&url, &options).await.expect("opens"),
            results: None,
            events: Some(
                open_events(&url.replace("tasks.db", "events.db"), &options).await.expect("opens"),
            ),
            modules: open_modules(&url, &options).await.expect("opens"),
            inline_max: 8 << 10,
        };
        let inspection = omniq_sandbox::inspect::inspect(bytes, &Default::default());
        let digest: Digest = inspection.expect("is a component").digest;
        let name: Name = "noop".parse().expect("is a name");
        let module = Module {
            name: name.clone(),
            version: name,
            digest,
            size: bytes.len() as u64,
            functions: Vec::new(),
            command: false,
            capabilities: Vec::new(),
            pushed: Timestamp::default(),
            unknown: Default::default(),
        };
        let reference = module.reference();
        stores.modules.push(module, bytes.to_vec()).await.expect("is kept");
        Self { stores, sandbox: sandbox.clone(), module: reference, pool }
    }

    fn task(&self, number: u64) -> Task {
        let id = id(number);
        Task::new(id, self.module.clone(), "run", Payload::cbor([0xa0]))
    }

    async fn enqueue(&self, from: u64, to: u64) {
        for chunk in (from..to).collect::<Vec<_>>().chunks(1000) {
            let tasks = chunk.iter().map(|number| self.task(*number)).collect();
            self.stores.tasks.enqueue(tasks).await.expect("are accepted");
        }
    }

    async fn start(&self, ends: &Ends, sink: &Sink) -> omniq::worker::WorkerHandle {
        let mut options = WorkerOptions { pool: self.pool, ..WorkerOptions::default() };
        if let Some(batch) =
            std::env::var("OMNIQ_CLAIM_BATCH").ok().and_then(|text| text.parse().ok())
        {
            options.batch = batch;
        }
        let stores = self.stores.clone();
        Worker::start(stores, self.sandbox.clone(), options, ends.clone(), sink.clone())
            .await
            .expect("starts")
    }

    async fn all_ended(&self, worker: &omniq::worker::WorkerHandle, count: u64) {
        loop {
            let seen = self.stores.tasks.changes(Interest::Ends);
            if worker.stats().succeeded >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.stores.tasks.changed(Interest::Ends, seen, Duration::from_millis(100)).await;
        }
    }

    /// Tasks a second from the first enqueue to the last end, all at the same time.
    async fn flow(&self, count: u64) -> f64 {
        let (ends, sink) = (Ends::new(), Sink::start(self.stores.events.clone()));
        let worker = self.start(&ends, &sink).await;
        self.enqueue(count, count + 100).await;
        self.all_ended(&worker, 100).await;
        let began = Instant::now();
        self.enqueue(0, count).await;
        self.all_ended(&worker, count + 100).await;
        let took = began.elapsed();
        worker.stop(Duration::from_secs(5)).await;
        sink.close().await;
        count as f64 / took.as_secs_f64()
    }

    /// Tasks a second of a backlog.
    async fn drain(&self, count: u64) -> f64 {
        self.enqueue(0, count).await;
        let (ends, sink) = (Ends::new(), Sink::start(self.stores.events.clone()));
        let began = Instant::now();
        let worker = self.start(&ends, &sink).await;
        self.all_ended(&worker, count).await;
        let took = began.elapsed();
        worker.stop(Duration::from_secs(5)).await;
        sink.close().await;
        count as f64 / took.as_secs_f64()
    }

    /// How long one task takes at a time, from enqueue to result.
    async fn single(&self, count: u64) -> Vec<Duration> {
        let (ends, sink) = (Ends::new(), Sink::start(self.stores.events.clone()));
        let worker = self.start(&ends, &sink).await;
        let times = self.one_by_one(&ends, count).await;
        worker.stop(Duration::from_secs(5)).await;
        sink.close().await;
        times
    }

    /// The same with the worker in another process.
    async fn single_elsewhere(&self, url: &str, count: u64) -> Vec<Duration> {
        let program = std::env::current_exe().expect("this program is a file");
        let mut worker = std::process::Command::new(program)
            .args(["--worker", url])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        // The first one waits until the other process is up.
        let times = self.one_by_one(&Ends::new(), count + 1).await.split_off(1);
        drop(worker.stdin.take());
        worker.wait().expect("ends");
        times
    }

    async fn one_by_one(&self, ends: &Ends, count: u64) -> Vec<Duration> {
        let (watched, store) = (ends.clone(), Arc::clone(&self.stores.tasks));
        let watcher = tokio::spawn(async move { watched.watch(store).await });
        let mut times = Vec::new();
        for number in 0..count {
            let task = self.task(number);
            let id = task.id;
            let began = Instant::now();
            self.stores.tasks.enqueue(vec![task]).await.expect("is accepted");
            ends.wait(id).await.expect("is in the store");
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        watcher.abort();
        times
    }
}

/// Tasks a second through claim and finish of the store, with nothing run.
async fn store_alone(url: &str, count: u64) -> f64 {
    let tasks = open_tasks(url, &Options::default()).await.expect("opens");
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: Name::default(),
        version: Name::default(),
        unknown: Default::default(),
    };
    for chunk in (0..count).collect::<Vec<_>>().chunks(1000) {
        let task = |number: &u64| {
            let id = id(*number);
            Task::new(id, module.clone(), "run", Payload::cbor([0xa0]))
        };
        tasks.enqueue(chunk.iter().map(task).collect()).await.expect("are accepted");
    }
    let session = tasks
        .open_session(SessionId::new(1), &WorkerInfo::default(), Duration::from_secs(600))
        .await
        .expect("opens");
    let began = Instant::now();
    let mut done = 0;
    while done < count {
        let want = Want::new(Lane::default(), 500, done);
        let leases = tasks.claim(&session, &[want]).await.expect("claims");
        done += leases.len() as u64;
        let ends = leases.iter().map(|lease| End {
            id: lease.id,
            token: lease.token,
            how: How::Succeeded(TaskResult::success(Payload::cbor([0xf6])).into()),
        });
        tasks.finish(&session, ends.collect()).await.expect("finishes");
    }
    count as f64 / began.elapsed().as_secs_f64()
}
