//! Very many tasks through one worker: its memory does not grow with them, nothing stays in the tables that claims look at,
//! and the file is no larger than what is kept.

use std::fs;
use std::time::{Duration, Instant};

use omniq_model::State;
use rustix::process::Signal;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::judge::Judge;
use crate::support::place::{Place, STEPS};
use crate::support::process::{PATIENCE, Process};

/// Tasks of one round: what is enqueued, run and forgotten before the next one comes.
const ROUND: u64 = 10_000;
/// How long ended tasks are kept.
const KEPT: &str = "1s";
/// How much more memory a worker may have at the end than half-way.
const GROWTH: u64 = 32 << 20;

/// How many: 100 000, or `OMNIQ_MILLION`.
fn tasks() -> u64 {
    let given = std::env::var("OMNIQ_MILLION").ok();
    given.map_or(100_000, |text| text.parse().expect("`OMNIQ_MILLION` is a number"))
}

#[test]
fn memory_and_file_do_not_grow_with_the_tasks() {
    let place = Place::new()
        .with("OMNIQ_RESULT_TTL", KEPT)
        .with("OMNIQ_HISTORY_TTL", KEPT)
        .with("OMNIQ_LEASE_TIME", "30s");
    place.says(&format!("push {STEPS}"));
    let lines: String = (0..ROUND).map(|number| format!("[{number}]\n")).collect();
    fs::write(place.path().join("lines"), lines).expect("the test's folder takes files");
    let mut worker = place.start("worker", ["worker"]);
    let judge = Judge::new(&place);
    let rounds = tasks().div_ceil(ROUND).max(4);
    let started = Instant::now();
    let mut samples = Vec::new();
    for _ in 0..rounds {
        // Fresh ids, as producers make them: in the order of time. Derived ones would fill the caches of every index.
        place.says("enqueue steps twice --ndjson lines");
        judge.drained(PATIENCE * 5);
        samples.push((
            resident(&worker),
            size(&place, "omniq.db"),
            size(&place, "omniq-events.db"),
        ));
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{} tasks in {seconds:.1} s; MiB of memory, tasks, events:", rounds * ROUND);
    for (memory, tasks, events) in samples.iter().step_by(samples.len().div_ceil(10)) {
        println!("  {} {} {}", memory >> 20, tasks >> 20, events >> 20);
    }
    // By the middle pools, caches and connections have their size.
    let (middle, last) = (samples[samples.len() / 2], samples[samples.len() - 1]);
    assert!(last.0 < middle.0 + GROWTH, "memory grew from {} to {} bytes", middle.0, last.0);
    assert!(last.1 < middle.1 * 2 + (16 << 20), "the file grew from {} to {}", middle.1, last.1);

    // What has ended is forgotten when its time is over, and nothing else is left.
    let deadline = Instant::now() + PATIENCE;
    while !judge.states().is_empty() {
        assert!(Instant::now() < deadline, "not forgotten: {:?}", judge.states());
        std::thread::sleep(Duration::from_millis(100));
    }
    worker.signal(Signal::TERM);
    let status = worker.wait(PATIENCE);
    assert!(status.success(), "it ended with {status}\n{}", worker.said());
    for table in ["task", "body", "done", "edge", "result", "session", "ukey"] {
        let rows = rows(&place, table);
        assert!(rows == 0 || table == "session", "{rows} rows are left in {table}");
    }
    assert_eq!(judge.states().get(&State::Failed), None);
}

fn resident(worker: &Process) -> u64 {
    worker.resident().unwrap_or_else(|error| panic!("{error}\n{}", worker.said()))
}

/// Bytes of a database with its log. Events are forgotten once a minute only.
fn size(place: &Place, database: &str) -> u64 {
    let log = format!("{database}-wal");
    let length = |file: &str| fs::metadata(place.path().join(file)).map_or(0, |data| data.len());
    length(database) + length(&log)
}

fn rows(place: &Place, table: &str) -> i64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut file = SqliteConnection::connect(&place.url("omniq.db")).await.expect("it opens");
        let count = sqlx::AssertSqlSafe(format!("select count(*) from omniq_{table}"));
        sqlx::query_scalar(count).fetch_one(&mut file).await.expect("it can be counted")
    })
}
