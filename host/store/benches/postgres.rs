//! What PostgreSQL does through the store and without it: `cargo bench -p omniq-store --features postgres --bench postgres`.
//!
//! The address is `OMNIQ_BENCH_POSTGRES`, a database that may be filled; without it nothing is measured. Prints thousands of
//! tasks a second, each beside the floor: the same client with bare tables and the same sizes of batches.

use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::floor::Keeps;
use omniq_store::postgres::{Config, Floor, PostgresTasks};
use omniq_store::{End, How, TaskStore, Want, WorkerInfo};

fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "bench".parse().expect("it is a name"),
        version: "1".parse().expect("it is a name"),
        unknown: Default::default(),
    };
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    Task::new(
        TaskId::new(Timestamp::from_millis(1_700_000_000_000), random),
        module,
        "f",
        Payload::cbor([0xa0]),
    )
}

fn kilo(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1000.0
}

async fn fill(store: &PostgresTasks, from: u64, count: usize, batch: usize) -> Duration {
    let begun = Instant::now();
    let mut number = from;
    let end = from + count as u64;
    while number < end {
        // Two calls under way, as two producers have them.
        let part = |from: u64| (from..(from + batch as u64).min(end)).map(task).collect::<Vec<_>>();
        let (first, second) = (part(number), part((number + batch as u64).min(end)));
        let (first, second) = tokio::join!(store.enqueue(first), store.enqueue(second));
        first.expect("it is enqueued");
        second.expect("it is enqueued");
        number += 2 * batch as u64;
    }
    begun.elapsed()
}

async fn drain(
    store: &PostgresTasks,
    session: u64,
    most: usize,
    batch: usize,
) -> (usize, Duration) {
    let lease = Duration::from_secs(600);
    let session = store
        .open_session(SessionId::new(session), &WorkerInfo::default(), lease)
        .await
        .expect("it opens");
    let begun = Instant::now();
    let mut done = 0;
    while done < most {
        let want = Want::new(Lane::default(), batch, done as u64 + 1);
        let leases = store.claim(&session, &[want]).await.expect("it claims");
        if leases.is_empty() {
            break;
        }
        done += leases.len();
        let how = || How::Succeeded(TaskResult::success(Payload::cbor([1])).into());
        let ends = leases.iter().map(|lease| End { id: lease.id, token: lease.token, how: how() });
        store.finish(&session, ends.collect()).await.expect("it finishes");
    }
    (done, begun.elapsed())
}

#[tokio::main]
async fn main() {
    let Ok(url) = std::env::var("OMNIQ_BENCH_POSTGRES") else {
        println!("OMNIQ_BENCH_POSTGRES names no database: nothing is measured");
        return;
    };
    let waiting: usize = std::env::var("OMNIQ_BENCH_WAITING")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000);
    let mut floor = Floor::open(&Config::new(&url).expect("the URL is right"), Keeps::Row)
        .await
        .expect("the floor opens");
    let inserted = floor.insert(60_000, 1000).await.expect("it inserts");
    let (drained, took) = floor.drain(500).await.expect("it drains");
    println!(
        "floor: insert by 1000 {:.1} k/s, claim and finish by 500 {:.1} k/s",
        kilo(60_000, inserted),
        kilo(drained, took)
    );
    let mut config = Config::new(&url).expect("the URL is right");
    config.schema = format!("bench_{}", std::process::id());
    let store = PostgresTasks::open(config).await.expect("it opens");
    println!("enqueue by 1000: {:.1} k/s", kilo(waiting, fill(&store, 0, waiting, 1000).await));
    let (done, took) = drain(&store, 1, 40_000.min(waiting), 500).await;
    println!("claim and finish by 500, {waiting} waiting: {:.1} k/s", kilo(done, took));
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64_u64 {
        let store = store.clone();
        callers.spawn(async move {
            for index in 0..200 {
                store
                    .enqueue(vec![task(1 << 40 | caller << 20 | index)])
                    .await
                    .expect("it is enqueued");
            }
        });
    }
    callers.join_all().await;
    println!("64 callers with one task each: {:.1} k/s", kilo(64 * 200, begun.elapsed()));
    store.close().await.expect("it closes");
}
