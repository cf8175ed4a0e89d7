//! How many tasks a second a program puts into the store, their arguments checked: all at once, and by 64 callers that
//! enqueue one at a time.
//!
//! `cargo bench -p omniq --bench enqueue [-- FILTER]` prints each figure beside the store alone, given tasks that are made
//! already. Rows: `memory`, `sqlite`. Run as a test it enqueues a hundredth of that, to see that nothing has rotted.

use std::time::{Duration, Instant};

use omniq::{NewTask, Queue};
use omniq_model::Task;

const ADD: &str = r#"(component
    (core module $m (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (func (export "add") (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $i "add"))))"#;

/// Tasks that are enqueued by one call.
const CALL: usize = 10_000;
const CALLERS: usize = 64;

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = format!("sqlite:{}", folder.path().join("omniq.db").display());
    // Cargo says `--bench` to a benchmark, and nothing to one that it runs among the tests.
    let share = if std::env::args().any(|arg| arg == "--bench") { 1 } else { 100 };
    for (row, url, tasks) in [("memory", "memory:bench", 300_000), ("sqlite", &file, 200_000)] {
        if row.contains(&filter) {
            runtime.block_on(measure(row, url, tasks / share));
        }
    }
}

async fn measure(row: &str, url: &str, count: usize) {
    let queue = Queue::connect(url).await.expect("opens");
    queue.push("add", ADD).await.expect("is a component");
    let floor = store_alone(&queue, count).await;
    let began = Instant::now();
    for start in (0..count).step_by(CALL) {
        let tasks = (start..(start + CALL).min(count))
            .map(|n| NewTask::new("add", "add").args((n as i32, 1)));
        let outcomes = queue.enqueue_many(tasks).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }
    report(row, "enqueue_many", count, began.elapsed(), floor);

    let began = Instant::now();
    let each = (count / 10 / CALLERS).max(1);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    queue.task("add", "add").args((n as i32, 1)).await.expect("is enqueued");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("does not panic");
    }
    report(row, "64 callers", each * CALLERS, began.elapsed(), floor);
    queue.close().await.expect("closes");
}

/// Tasks a second that the store takes by itself, in calls of 1000.
async fn store_alone(queue: &Queue, count: usize) -> f64 {
    let first = queue.task("add", "add").args((1, 1)).await.expect("is enqueued");
    let made: Task = (*first.info().await.expect("is there").task.expect("is readable")).clone();
    let mut chunks: Vec<Vec<Task>> = Vec::new();
    for chunk in 0..count / 1000 {
        let task = |n: usize| Task {
            id: omniq::TaskId::derived(&[&(chunk * 1000 + n).to_be_bytes()]),
            ..made.clone()
        };
        chunks.push((0..1000).map(task).collect());
    }
    let began = Instant::now();
    for chunk in chunks {
        queue.stores().tasks.enqueue(chunk).await.expect("is enqueued");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

fn report(row: &str, what: &str, count: usize, took: Duration, floor: f64) {
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "{row:<8} {what:<14} {rate:>10.0} tasks/s   {:.2} of the store alone ({floor:.0}/s)",
        rate / floor
    );
}
