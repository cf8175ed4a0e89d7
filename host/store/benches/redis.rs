//! How fast Redis is on this machine, by the second and by always syncing its log, beside a raw loop over the same library
//! in the same run.
//!
//! `cargo bench -p omniq-store --features redis --bench redis` starts private servers and measures; the words `everysec`,
//! `always`, `enqueue`, `lives` and `waiting` choose parts. Without `--bench` each part runs once with a hundredth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq_model::{Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult};
use omniq_services::{Kind, Server};
use omniq_store::floor::Keeps;
use omniq_store::redis::{Config, Floor, RedisTasks};
use omniq_store::{
    Clock as _, Durability, End, Finished, How, Session, SystemClock, TaskStore, Want, WorkerInfo,
};

/// Bytes of a task's arguments.
const BODY: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Sizes {
    tasks: usize,
    few: usize,
    many: usize,
}

#[tokio::main]
async fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let sizes = if measured {
        Sizes { tasks: 100_000, few: 10_000, many: 1_000_000 }
    } else {
        Sizes { tasks: 1_000, few: 100, many: 10_000 }
    };
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = |group: &[&str], word: &str| {
        let any = words.iter().any(|chosen| group.contains(&chosen.as_str()));
        !any || words.iter().any(|chosen| chosen == word)
    };
    println!("{:<44} {:>10} {:>10} {:>6}", "tasks a second", "omniq", "raw", "ratio");
    for fsync in ["everysec", "always"] {
        if !chosen(&["everysec", "always"], fsync) {
            continue;
        }
        let part = |word| chosen(&["enqueue", "lives", "waiting"], word);
        let server = Server::start(Kind::Redis, &[("appendfsync", fsync)]);
        let bench = Bench::open(server.url()).await;
        if part("enqueue") {
            enqueues(fsync, &bench, sizes).await;
            bench.drain(500).await;
        }
        if part("lives") {
            lives(fsync, &bench, sizes.few, sizes.tasks).await;
        }
        if part("waiting") {
            waiting(fsync, &bench, sizes).await;
        }
    }
}

fn row(fsync: &str, name: &str, ours: f64, floor: f64) {
    let name = format!("{fsync}: {name}");
    println!("{name:<44} {ours:>10.0} {floor:>10.0} {:>6.2}", ours / floor);
}

fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

async fn enqueues(fsync: &str, bench: &Bench, sizes: Sizes) {
    let mut floor = bench.floor().await;
    let raw = floor.insert(sizes.tasks, 1000).await.expect("it inserts");
    let begun = Instant::now();
    for _ in 0..sizes.tasks / 1000 {
        bench.enqueue(1000).await;
    }
    let ours = per_second(sizes.tasks, begun.elapsed());
    row(fsync, "enqueue by 1000", ours, per_second(sizes.tasks, raw));
    floor.drain(500).await.expect("it drains");

    let callers = 64;
    let each = sizes.tasks / 4 / callers;
    let raw = floor.insert(callers * each, callers).await.expect("it inserts");
    let begun = Instant::now();
    let calling: Vec<_> = (0..callers)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    bench.enqueue(1).await;
                }
            })
        })
        .collect();
    for caller in calling {
        caller.await.expect("a caller does not fail");
    }
    let ours = per_second(callers * each, begun.elapsed());
    row(fsync, "enqueue one by one, 64 callers", ours, per_second(callers * each, raw));
    floor.drain(500).await.expect("it drains");
}

/// Claims and ends while so many wait.
async fn lives(fsync: &str, bench: &Bench, wait: usize, count: usize) {
    let mut floor = bench.floor().await;
    floor.insert(count, 1000).await.expect("it inserts");
    let (drained, raw) = floor.drain(500).await.expect("it drains");
    let floor = per_second(drained, raw);
    bench.fill(wait).await;
    let (mut left, mut spent) = (count, Duration::ZERO);
    while left > 0 {
        let part = left.min(wait.max(500));
        bench.fill(part).await;
        let begun = Instant::now();
        for _ in 0..part.div_ceil(500) {
            bench.live(part.min(500)).await;
        }
        spent += begun.elapsed();
        left -= part;
    }
    row(
        fsync,
        &format!("claim and finish by 500, {wait} waiting"),
        per_second(count, spent),
        floor,
    );
    bench.drain(500).await;
}

async fn waiting(fsync: &str, bench: &Bench, sizes: Sizes) {
    let mut floor = bench.floor().await;
    floor.insert(sizes.tasks, 1000).await.expect("it inserts");
    let (drained, raw) = floor.drain(500).await.expect("it drains");
    bench.fill(sizes.many).await;
    let begun = Instant::now();
    for _ in 0..sizes.tasks.div_ceil(500) {
        bench.live(sizes.tasks.min(500)).await;
    }
    let name = format!("claim and finish by 500, {} waiting", sizes.many);
    row(fsync, &name, per_second(sizes.tasks, begun.elapsed()), per_second(drained, raw));
    println!("{}", bench.memory(sizes.many - sizes.tasks).await);
}

/// A store with a session.
#[derive(Debug, Clone)]
struct Bench {
    store: RedisTasks,
    session: Session,
    module: ModuleRef,
    config: Config,
    clock: Arc<SystemClock>,
}

impl Bench {
    async fn open(url: &str) -> Self {
        let mut config = Config::new(url).expect("the URL is right");
        config.durability = Durability::Os;
        config.timeout = Duration::from_secs(60);
        let store = RedisTasks::open(config.clone()).await.expect("it opens");
        let lease = Duration::from_secs(3600);
        let worker = WorkerInfo::default();
        let session = store.open_session(SessionId::new(1), &worker, lease).await.expect("opens");
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "resize".parse().expect("it is a name"),
            version: "1.0.0".parse().expect("it is a name"),
            unknown: Default::default(),
        };
        Self { store, session, module, config, clock: Arc::default() }
    }

    async fn floor(&self) -> Floor {
        Floor::open(&self.config, Keeps::Row).await.expect("it opens")
    }

    async fn enqueue(&self, count: usize) {
        let task = |_| {
            let id = TaskId::new(self.clock.now(), random());
            Task::new(id, self.module.clone(), "run", Payload::cbor(vec![7; BODY]))
        };
        let tasks = (0..count).map(task).collect();
        let answers = self.store.enqueue(tasks).await.expect("they are accepted");
        assert_eq!(answers.len(), count);
    }

    async fn fill(&self, count: usize) {
        for _ in 0..count.div_ceil(1000) {
            self.enqueue(count.min(1000)).await;
        }
    }

    /// Claims and ends up to so many; how many there were.
    async fn live(&self, batch: usize) -> usize {
        let want = Want::new(Lane::default(), batch, 7);
        let leases = self.store.claim(&self.session, &[want]).await.expect("they are leased");
        let end = |lease: &omniq_store::Lease| End {
            id: lease.id,
            token: lease.token,
            how: How::Succeeded(TaskResult::success(Payload::cbor([0x07])).into()),
        };
        let ends: Vec<End> = leases.iter().map(end).collect();
        let answers = self.store.finish(&self.session, ends).await.expect("they end");
        assert!(answers.iter().all(|answer| matches!(answer, Finished::Applied(_))));
        leases.len()
    }

    async fn drain(&self, batch: usize) {
        while self.live(batch).await > 0 {}
    }

    /// What the server needs for what is in it.
    async fn memory(&self, waiting: usize) -> String {
        let url = self.config.place();
        let client = redis::Client::open(url).expect("the URL is right");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it connects");
        let info: redis::RedisResult<String> =
            redis::cmd("INFO").arg("memory").query_async(&mut connection).await;
        let info = info.expect("it says");
        let used = info.lines().find(|line| line.starts_with("used_memory_human"));
        format!("{} with {waiting} waiting and all that ended before", used.unwrap_or_default())
    }
}

/// Bytes that differ each time.
fn random() -> [u8; 10] {
    // SplitMix64 (Steele, Lea, Flood 2014) over a counter.
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut word = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(word ^ word >> 31).to_le_bytes());
    bytes
}
