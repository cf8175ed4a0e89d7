//! How fast SQLite is on this disk, every commit synced, beside raw loops over the same library in the same run.
//!
//! `cargo bench -p omniq-store --bench sqlite` measures for some seconds each; `-- --full` adds a history of five million
//! tasks, which takes minutes to make. The words `enqueue`, `lives`, `waiting` and `ended` choose parts. Without `--bench`
//! each part runs once and nothing is measured.

#[path = "sqlite/raw.rs"]
mod raw;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{
    Clock, End, Finished, How, Lease, Session, SystemClock, TaskStore, Want, WorkerInfo,
};

/// Bytes of a task's arguments.
const BODY: usize = 256;
const RESULT: [u8; 8] = [0x1b, 0, 0, 0, 0, 0, 0, 7];

/// What a run measures, and for how long.
#[derive(Debug, Clone, Copy)]
struct Plan {
    span: Duration,
    backlog: usize,
    history: usize,
}

#[tokio::main]
async fn main() {
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let plan = match (has("--bench"), has("--full")) {
        (false, _) => Plan { span: Duration::ZERO, backlog: 2_000, history: 2_000 },
        (true, false) => Plan { span: Duration::from_secs(3), backlog: 1_000_000, history: 0 },
        (true, true) => {
            Plan { span: Duration::from_secs(3), backlog: 1_000_000, history: 5_000_000 }
        }
    };
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut report = Report::default();
    let named: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|word| word == part);
    if wanted("enqueue") {
        enqueues(&folder.path().join("enqueue"), plan, &mut report).await;
    }
    if wanted("lives") {
        lives(&folder.path().join("lives"), plan, &mut report).await;
    }
    if wanted("waiting") {
        waiting(&folder.path().join("waiting"), plan, &mut report).await;
    }
    if wanted("ended") && plan.history > 0 {
        ended(&folder.path().join("ended"), plan, &mut report).await;
    }
    if plan.span > Duration::ZERO {
        report.print();
    }
}

/// Tasks in batches and one by one.
async fn enqueues(folder: &Path, plan: Plan, report: &mut Report) {
    for batch in [500, 1000] {
        let mut raw = raw::Raw::open(&folder.join("raw.db")).await;
        let floor = measure(plan.span, batch, async || raw.insert(batch).await).await;
        let bench = Bench::open(&folder.join("omniq.db")).await;
        let ours = measure(plan.span, batch, async || bench.enqueue(batch).await).await;
        bench.close(folder).await;
        report.row(format!("enqueue, batches of {batch}"), ours, floor);
    }
    for callers in [1, 64, 1024] {
        let mut raw = raw::Raw::open(&folder.join("raw.db")).await;
        let floor = measure(plan.span, callers, async || raw.insert(callers).await).await;
        let bench = Bench::open(&folder.join("omniq.db")).await;
        let ours = many(&bench, callers, plan.span).await;
        bench.close(folder).await;
        report.row(format!("enqueue one by one, {callers} callers"), ours, floor);
    }
}

/// Claims and ends over a short queue.
async fn lives(folder: &Path, plan: Plan, report: &mut Report) {
    for batch in [1, 10, 200, 500] {
        let mut raw = raw::Raw::open(&folder.join("raw.db")).await;
        let floor = lives_of(plan.span, batch, Fill::Raw(&mut raw)).await;
        let bench = Bench::open(&folder.join("omniq.db")).await;
        let ours = lives_of(plan.span, batch, Fill::Ours(&bench)).await;
        bench.close(folder).await;
        report.row(format!("claim and finish, batches of {batch}"), ours, floor);
    }
}

async fn waiting(folder: &Path, plan: Plan, report: &mut Report) {
    for batch in [200, 500] {
        let bench = Bench::open(&folder.join("omniq.db")).await;
        bench.fill(plan.backlog).await;
        let floor = 0.0;
        let ours = measure(plan.span, batch, async || bench.live(batch).await).await;
        bench.close(folder).await;
        report.row(
            format!("claim and finish, batches of {batch}, {} waiting", plan.backlog),
            ours,
            floor,
        );
    }
}

async fn ended(folder: &Path, plan: Plan, report: &mut Report) {
    let path = folder.join("omniq.db");
    let bench = Bench::open(&path).await;
    bench.fill(1000).await; // so that lanes and code have their numbers
    raw::history(&path, plan.history).await;
    for batch in [200, 500] {
        let ours = lives_of(plan.span, batch, Fill::Ours(&bench)).await;
        let name = format!("claim and finish, batches of {batch}, {} ended", plan.history);
        report.row(name, ours, 0.0);
    }
    let ours = measure(plan.span, 1000, async || bench.enqueue(1000).await).await;
    report.row(format!("enqueue, batches of 1000, {} ended", plan.history), ours, 0.0);
    bench.close(folder).await;
}

/// Whose tasks are lived.
enum Fill<'a> {
    Raw(&'a mut raw::Raw),
    Ours(&'a Bench),
}

/// Lives a second; what is claimed is made before, outside of the measurement.
async fn lives_of(span: Duration, batch: usize, mut of: Fill<'_>) -> f64 {
    const STOCK: usize = 50_000;
    let (mut spent, mut done) = (Duration::ZERO, 0);
    let stock = if span.is_zero() { batch } else { STOCK.min(batch * 1000) };
    loop {
        match &mut of {
            Fill::Raw(raw) => raw.fill(stock).await,
            Fill::Ours(bench) => bench.fill(stock).await,
        }
        let begun = Instant::now();
        for _ in 0..stock / batch {
            match &mut of {
                Fill::Raw(raw) => raw.live(batch).await,
                Fill::Ours(bench) => bench.live(batch).await,
            }
            done += batch;
        }
        spent += begun.elapsed();
        if spent >= span {
            return done as f64 / spent.as_secs_f64();
        }
    }
}

/// Items a second of a call that does `items` at a time.
async fn measure(span: Duration, items: usize, mut call: impl AsyncFnMut()) -> f64 {
    let begun = Instant::now();
    let mut done = 0;
    loop {
        call().await;
        done += items;
        if begun.elapsed() >= span {
            return done as f64 / begun.elapsed().as_secs_f64();
        }
    }
}

/// Tasks a second of callers that enqueue one task at a time each.
async fn many(bench: &Bench, callers: usize, span: Duration) -> f64 {
    let begun = Instant::now();
    let caller = |_| {
        let bench = bench.clone();
        tokio::spawn(async move {
            let mut done = 0;
            loop {
                bench.enqueue(1).await;
                done += 1;
                if begun.elapsed() >= span {
                    return done;
                }
            }
        })
    };
    let callers: Vec<_> = (0..callers).map(caller).collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.expect("a caller does not panic");
    }
    f64::from(done) / begun.elapsed().as_secs_f64()
}

/// A store with a session.
#[derive(Debug, Clone)]
struct Bench {
    store: SqliteTasks,
    session: Session,
    module: ModuleRef,
    clock: Arc<SystemClock>,
}

impl Bench {
    async fn open(path: &Path) -> Self {
        let store = SqliteTasks::open(Config::new(path)).await.expect("it opens");
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

    async fn close(self, folder: &Path) {
        self.store.close().await.expect("it closes");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    fn tasks(&self, count: usize) -> Vec<Task> {
        let task = |_| {
            let id = TaskId::new(self.clock.now(), raw::random());
            Task::new(id, self.module.clone(), "run", Payload::cbor(vec![7; BODY]))
        };
        (0..count).map(task).collect()
    }

    async fn enqueue(&self, count: usize) {
        let answers = self.store.enqueue(self.tasks(count)).await.expect("they are accepted");
        assert_eq!(answers.len(), count);
    }

    async fn fill(&self, count: usize) {
        for _ in 0..count.div_ceil(1000) {
            self.enqueue(count.min(1000)).await;
        }
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

/// What was measured.
#[derive(Debug, Default)]
struct Report(Vec<(String, f64, f64)>);

impl Report {
    fn row(&mut self, name: String, ours: f64, floor: f64) {
        self.0.push((name, ours, floor));
    }

    fn print(&self) {
        println!("{:<56} {:>10} {:>10} {:>6}", "tasks a second", "omniq", "raw", "ratio");
        for (name, ours, floor) in &self.0 {
            let (raw, ratio) = if *floor > 0.0 {
                (format!("{floor:.0}"), format!("{:.2}", ours / floor))
            } else {
                (String::new(), String::new())
            };
            println!("{name:<56} {ours:>10.0} {raw:>10} {ratio:>6}");
        }
    }
}

/// Milliseconds now, for ids that sort by time.
fn now() -> Timestamp {
    SystemClock::default().now()
}
