//! Processes that die in the midst of it, and several on one file. Each test starts this program again as the child.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/processes.rs"]
mod processes;

use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use omniq_store::ManualClock;
use omniq_store::sqlite::{Config, SqliteTasks};

use processes::{KINDS, LATER, NUMBER, ROLE, check_after_death, check_shared, share, steps};

const FILE: &str = "OMNIQ_TEST_FILE";

fn start(role: &str, path: &Path, number: u64, failpoint: &str) -> Child {
    processes::start(role, [(FILE, path)], number, failpoint)
}

/// Not a test of its own: what children do.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    let store = SqliteTasks::open(Config::new(std::env::var_os(FILE).unwrap())).await.unwrap();
    match role.as_str() {
        "steps" => steps(&store).await,
        "share" => share(&store, number).await,
        other => panic!("`{other}` is no role"),
    }
}

async fn check(kind: &str, place: &str, done: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let failpoint = format!("sqlite.{kind}.{place}");
    let status = start("steps", &path, 0, &failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let config = Config { clock: Arc::new(ManualClock::new(LATER)), ..Config::new(&path) };
    let store = SqliteTasks::open(config).await.unwrap();
    check_after_death(&store, &failpoint, &[done]).await;
}

#[tokio::test]
async fn a_death_around_a_commit_loses_nothing_and_doubles_nothing() {
    for (done, kind) in KINDS.into_iter().enumerate() {
        check(kind, "before_commit", done).await;
        check(kind, "after_commit", done + 1).await;
    }
}

#[tokio::test]
async fn several_processes_share_a_file_without_losing_or_doubling_a_task() {
    const PROCESSES: u64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let children: Vec<_> = (0..PROCESSES).map(|number| start("share", &path, number, "")).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = SqliteTasks::open(Config::new(&path)).await.unwrap();
    check_shared(&store, PROCESSES).await;
}
