//! How fast tasks in NATS are, beside a raw loop over the same client in the same run.
//!
//! `cargo bench -p omniq-store --features nats --bench nats` starts private servers: one that answers before its disk has a
//! message, as every server does unless told otherwise, and one that syncs always. The words `os` and `disk` choose one of
//! them. Without `--bench` each part runs once and nothing is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_services::{Kind, Server};
use omniq_store::nats::{Config, Floor, NatsTasks};
use omniq_store::{End, Finished, How, Interest, Lease, Session, TaskStore, Want, WorkerInfo};

/// Claimed and finished at a time, as workers do by default.
const BATCH: usize = 500;

/// What a run measures.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rows: usize,
    backlog: usize,
    callers: usize,
    each: usize,
    rounds: usize,
}

#[tokio::main]
async fn main() {
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let plan = if has("--bench") {
        Plan { rows: 100_000, backlog: 200_000, callers: 64, each: 200, rounds: 500 }
    } else {
        Plan { rows: 1_000, backlog: 2_000, callers: 8, each: 4, rounds: 10 }
    };
    let named = has("os") || has("disk");
    for (name, sync) in [("os", "2m"), ("disk", "always")] {
        if named && !has(name) {
            continue;
        }
        let server = Server::start(Kind::Nats, &[("sync_interval", sync)]);
        println!("sync_interval: {sync}");
        measure(&server, plan).await;
    }
}

async fn measure(server: &Server, plan: Plan) {
    let mut floor = Floor::open(&config(server, "floor")).await.expect("the floor opens");
    let insert = rate(plan.rows, floor.insert(plan.rows, 1000).await.expect("it inserts"));
    let (drained, took) = floor.drain(BATCH).await.expect("it drains");
    let drain = rate(drained, took);

    let bench = Bench::open(server, "bulk").await;
    let ours = bench.enqueue(plan.rows).await;
    row("enqueue, batches of 1000", ours, insert);
    let (drained, took) = bench.drain(plan.rows).await;
    row("claim and finish, batches of 500", rate(drained, took), drain);
    bench.close().await;

    let bench = Bench::open(server, "callers").await;
    let took = bench.callers(plan.callers, plan.each).await;
    row(
        &format!("enqueue one by one, {} callers", plan.callers),
        rate(plan.callers * plan.each, took),
        0.0,
    );
    bench.close().await;

    let bench = Bench::open(server, "backlog").await;
    bench.enqueue(plan.backlog).await;
    let few = plan.rows.min(plan.backlog) / 2;
    let (drained, took) = bench.drain(few).await;
    row(&format!("claim and finish with {} waiting", plan.backlog), rate(drained, took), drain);
    println!("memory of this process: {} MiB", resident() >> 20);
    let started = Instant::now();
    let second = NatsTasks::open(config(server, "backlog")).await.expect("it opens");
    println!("a second process opens {} tasks in {:?}", plan.backlog, started.elapsed());
    second.close().await.expect("it closes");
    bench.close().await;

    latency(server, plan.rounds).await;
}

/// From an enqueue in one process to the end seen there, with a worker in another: two engines, as two processes have.
async fn latency(server: &Server, rounds: usize) {
    let worker = Bench::open(server, "latency").await;
    let producer = NatsTasks::open(config(server, "latency")).await.expect("it opens");
    let working = tokio::spawn(async move {
        let mut done = 0;
        while done < rounds {
            let seen = worker.store.changes(Interest::Work);
            let leases = worker.claim(10).await;
            if leases.is_empty() {
                worker.store.changed(Interest::Work, seen, Duration::from_secs(1)).await;
            }
            done += leases.len();
            worker.finish(leases).await;
        }
        worker.close().await;
    });
    let mut took = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let task = task();
        let id = task.id;
        producer.enqueue(vec![task]).await.expect("it is accepted");
        loop {
            let seen = producer.changes(Interest::Ends);
            let info = producer.get(&[id]).await.expect("it is read").pop().flatten();
            if info.is_some_and(|info| info.head.state == State::Succeeded) {
                break;
            }
            producer.changed(Interest::Ends, seen, Duration::from_secs(1)).await;
        }
        took.push(started.elapsed());
    }
    working.await.expect("it works");
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("enqueue to result: p50 {:?}, p99 {:?}", at(50), at(99));
    producer.close().await.expect("it closes");
}

struct Bench {
    store: Arc<NatsTasks>,
    session: Session,
}

fn config(server: &Server, name: &str) -> Config {
    Config::new(vec![server.address().to_string()], name)
}

impl Bench {
    async fn open(server: &Server, name: &str) -> Self {
        let store = NatsTasks::open(config(server, name)).await.expect("it opens");
        let session = store
            .open_session(SessionId::new(fresh()), &WorkerInfo::default(), Duration::from_secs(600))
            .await
            .expect("a session opens");
        Self { store: Arc::new(store), session }
    }

    /// Tasks a second.
    async fn enqueue(&self, rows: usize) -> f64 {
        let mut left = rows;
        let mut took = Duration::ZERO;
        while left > 0 {
            let count = left.min(1000);
            left -= count;
            let tasks = (0..count).map(|_| task()).collect();
            let started = Instant::now();
            self.store.enqueue(tasks).await.expect("they are accepted");
            took += started.elapsed();
        }
        rate(rows, took)
    }

    async fn callers(&self, callers: usize, each: usize) -> Duration {
        let started = Instant::now();
        let mut calling = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let store = Arc::clone(&self.store);
            calling.spawn(async move {
                for _ in 0..each {
                    store.enqueue(vec![task()]).await.expect("it is accepted");
                }
            });
        }
        calling.join_all().await;
        started.elapsed()
    }

    async fn claim(&self, max: usize) -> Vec<Lease> {
        let want = Want::new(Lane::default(), max, fresh());
        self.store.claim(&self.session, &[want]).await.expect("it claims")
    }

    async fn finish(&self, leases: Vec<Lease>) {
        let value = || Payload::cbor([0x1b, 0, 0, 0, 0, 0, 0, 0, 7]);
        let end = |lease: Lease| End {
            id: lease.id,
            token: lease.token,
            how: How::Succeeded(TaskResult::success(value()).into()),
        };
        let ends = leases.into_iter().map(end).collect();
        let finished = self.store.finish(&self.session, ends).await.expect("it finishes");
        assert!(finished.iter().all(|one| matches!(one, Finished::Applied(_))));
    }

    /// Claims and finishes so many, one batch after the other.
    async fn drain(&self, rows: usize) -> (usize, Duration) {
        let started = Instant::now();
        let mut drained = 0;
        while drained < rows {
            let leases = self.claim(BATCH).await;
            drained += leases.len();
            self.finish(leases).await;
        }
        (drained, started.elapsed())
    }

    async fn close(self) {
        self.store.close().await.expect("it closes");
    }
}

fn fresh() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

fn task() -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "add".parse().expect("it is a name"),
        version: "1.0.0".parse().expect("it is a name"),
        unknown: Default::default(),
    };
    let mut random = [0; 10];
    random[2..].copy_from_slice(&fresh().to_be_bytes());
    let id = TaskId::new(Timestamp::from_millis(1_700_000_000_000), random);
    Task::new(id, module, "add", Payload::cbor(vec![0x58; 32]))
}

fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64().max(1e-9)
}

fn row(name: &str, ours: f64, floor: f64) {
    if floor > 0.0 {
        println!(
            "{name}: {:.1} k/s, raw loop {:.1} k/s, {:.2} of it",
            ours / 1e3,
            floor / 1e3,
            ours / floor
        );
    } else {
        println!("{name}: {:.1} k/s", ours / 1e3);
    }
}

/// Bytes of memory this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
