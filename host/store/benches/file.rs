//! How fast tasks in files are on this disk, every commit synced, beside a raw loop that appends and syncs in the same run.
//!
//! `cargo bench -p omniq-store --features object --bench file` measures for some seconds each. Without `--bench` each part
//! runs once and nothing is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult};
use omniq_store::object::{Config, Floor, ObjectTasks, Root};
use omniq_store::{
    Clock, Durability, End, Finished, How, Lease, Session, SystemClock, TaskStore, Want, WorkerInfo,
};

/// Bytes of a task's arguments: with all else it has about 160.
const BODY: usize = 60;
const RESULT: [u8; 8] = [0x1b, 0, 0, 0, 0, 0, 0, 7];

#[tokio::main]
async fn main() {
    let measures = std::env::args().any(|argument| argument == "--bench");
    let (tasks, short, long) =
        if measures { (500_000, 10_000, 1_000_000) } else { (2_000, 1_000, 2_000) };
    let folder = tempfile::tempdir().expect("a folder can be made");
    println!("{:<52} {:>10} {:>10} {:>6}", "tasks a second", "omniq", "raw", "ratio");
    enqueues(&folder.path().join("enqueue"), tasks).await;
    callers(&folder.path().join("callers"), tasks / 10).await;
    for batch in [100, 500] {
        lives(&folder.path().join("lives"), tasks / 5, short, batch).await;
    }
    lives(&folder.path().join("waiting"), tasks / 5, long, 500).await;
    started(&folder.path().join("waiting")).await;
}

fn row(name: String, tasks: usize, ours: Duration, raw: Duration) {
    let rate = |span: Duration| tasks as f64 / span.as_secs_f64();
    let ratio = rate(ours) / rate(raw);
    println!("{name:<52} {:>10.0} {:>10.0} {ratio:>6.2}", rate(ours), rate(raw));
}

fn raw(folder: &Path) -> Floor {
    std::fs::create_dir_all(folder).expect("the folder is ours");
    Floor::open(&folder.join("raw")).expect("a file can be made")
}

async fn enqueues(folder: &Path, count: usize) {
    let raw = raw(folder).insert(count, 1000).expect("it appends");
    let bench = Bench::open(folder).await;
    let mut spent = Duration::ZERO;
    for _ in 0..count / 1000 {
        let tasks = bench.tasks(1000);
        let begun = Instant::now();
        bench.enqueue(tasks).await;
        spent += begun.elapsed();
    }
    row("enqueue, batches of 1000".into(), count / 1000 * 1000, spent, raw);
    bench.store.close().await.expect("it closes");
}

async fn callers(folder: &Path, count: usize) {
    let raw = raw(folder).insert(count, 64).expect("it appends");
    let bench = Bench::open(folder).await;
    let begun = Instant::now();
    let callers = (0..64).map(|_| {
        let bench = bench.clone();
        tokio::spawn(async move {
            for _ in 0..count / 64 {
                bench.enqueue(bench.tasks(1)).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("a caller does not panic");
    }
    row("enqueue one by one, 64 callers".into(), count / 64 * 64, begun.elapsed(), raw);
    bench.store.close().await.expect("it closes");
}

/// Claims and ends `count` tasks while so many more wait.
async fn lives(folder: &Path, count: usize, waiting: usize, batch: usize) {
    let mut raw = raw(folder);
    raw.insert(count, 1000).expect("it appends");
    let (_, raw) = raw.drain(batch).expect("it appends");
    let bench = Bench::open(folder).await;
    for _ in 0..(count + waiting).div_ceil(1000) {
        bench.enqueue(bench.tasks(1000)).await;
    }
    let begun = Instant::now();
    for _ in 0..count / batch {
        bench.live(batch).await;
    }
    let name = format!("claim and finish, batches of {batch}, {waiting} waiting");
    row(name, count / batch * batch, begun.elapsed(), raw);
    bench.store.close().await.expect("it closes");
    if waiting < 1_000_000 {
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }
}

async fn started(folder: &Path) {
    let begun = Instant::now();
    let bench = Bench::open(folder).await;
    println!("opening that again took {:.2} s", begun.elapsed().as_secs_f64());
    bench.store.close().await.expect("it closes");
}

/// A store with a session.
#[derive(Debug, Clone)]
struct Bench {
    store: ObjectTasks,
    session: Session,
    module: ModuleRef,
    clock: Arc<SystemClock>,
}

impl Bench {
    async fn open(folder: &Path) -> Self {
        let root = Root::folder(folder, Durability::Disk).expect("the folder is ours");
        let store = ObjectTasks::open(Config::new(root)).await.expect("it opens");
        let lease = Duration::from_secs(3600);
        let worker = WorkerInfo::default();
        let session = store.open_session(SessionId::new(1), &worker, lease).await.expect("opens");
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "resize".parse().expect("it is a name"),
            version: "1.0.0".parse().expect("it is a name"),
            unknown: Default::default(),
        };
        Self { store, session, module, clock: Arc::default() }
    }

    fn tasks(&self, count: usize) -> Vec<Task> {
        let task = |_| {
            let mut random = [0; 10];
            getrandom::fill(&mut random).expect("there is chance");
            let id = TaskId::new(self.clock.now(), random);
            Task::new(id, self.module.clone(), "run", Payload::cbor(vec![7; BODY]))
        };
        (0..count).map(task).collect()
    }

    async fn enqueue(&self, tasks: Vec<Task>) {
        let count = tasks.len();
        let answers = self.store.enqueue(tasks).await.expect("they are accepted");
        assert_eq!(answers.len(), count);
    }

    async fn live(&self, batch: usize) {
        let want = Want::new(Lane::default(), batch, 7);
        let leases = self.store.claim(&self.session, &[want]).await.expect("they are leased");
        assert_eq!(leases.len(), batch, "there are enough");
        let end = |lease: Lease| End {
            id: lease.id,
            token: lease.token,
            how: How::Succeeded(TaskResult::success(Payload::cbor(RESULT)).into()),
        };
        let ends: Vec<End> = leases.into_iter().map(end).collect();
        let answers = self.store.finish(&self.session, ends).await.expect("they end");
        assert!(answers.iter().all(|answer| matches!(answer, Finished::Applied(_))));
    }
}
