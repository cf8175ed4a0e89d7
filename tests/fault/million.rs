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
use crate::support::story::Batch;

/// Tasks of one round: what is enqueued, run and forgotten before the next one comes.
const ROUND: u64 = 10_000;
/// How long ended tasks are kept.
const KEPT: &str = "1s";
/// How much more memory a worker may have at the end than after its first rounds.
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
    let mut worker = place.start("worker", ["worker"]);
    let judge = Judge::new(&place);
    let rounds = tasks().div_ceil(ROUND).max(4);
    let started = Instant::now();
    let (mut early, mut size_early) = (0, 0);
    for round in 0..rounds {
        Batch::twice(&format!("round-{round}"), round * ROUND, ROUND).enqueue(&place);
        judge.drained(PATIENCE * 5);
        // The pools, caches and connections have their size after some rounds.
        if round == rounds / 4 {
            (early, size_early) = (resident(&worker), size(&place));
        }
    }
    let (late, size_late) = (resident(&worker), size(&place));
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} tasks in {seconds:.1} s; memory {} MiB after a quarter, {} MiB at the end; files {} and {} MiB",
        rounds * ROUND,
        early >> 20,
        late >> 20,
        size_early >> 20,
        size_late >> 20
    );
    assert!(late < early + GROWTH, "memory grew from {early} to {late} bytes");
    assert!(size_late < size_early * 2 + (16 << 20), "files grew from {size_early} to {size_late}");

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

/// Bytes of all databases of a place, with their logs.
fn size(place: &Place) -> u64 {
    let files = fs::read_dir(place.path()).expect("the place is there").flatten();
    let is_database = |name: &str| name.contains(".db");
    files
        .filter(|file| file.file_name().to_str().is_some_and(is_database))
        .map(|file| file.metadata().map_or(0, |data| data.len()))
        .sum()
}

fn rows(place: &Place, table: &str) -> i64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let mut file = SqliteConnection::connect(&place.url("omniq.db")).await.expect("it opens");
        let count = sqlx::AssertSqlSafe(format!("select count(*) from omniq_{table}"));
        sqlx::query_scalar(count).fetch_one(&mut file).await.expect("it can be counted")
    })
}
