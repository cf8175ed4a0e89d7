//! Processes that die in the midst of it, and several on one file. Each test starts this program again as the child.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/processes.rs"]
mod processes;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{Enqueued, ErrorKind, Filter, ManualClock, TaskStore};

use processes::{KINDS, LATER, NUMBER, ROLE, check_after_death, check_shared, share, steps, task};

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
        "add" => {
            let answers = store.enqueue((0..=number).map(task).collect()).await.unwrap();
            let (added, there) = answers.split_last().unwrap();
            assert_eq!(*added, Enqueued::Created);
            assert!(there.iter().all(|answer| matches!(answer, Enqueued::Duplicate { .. })));
            store.close().await.unwrap();
        }
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

/// Another process finds so many tasks in the file, adds one, and lets go of it.
fn add(path: &Path, tasks: u64) {
    assert!(start("add", path, tasks, "").wait().unwrap().success(), "not the {tasks} tasks");
}

/// Whether this process has a lock on the file, without which older versions of SQLite remove its log.
fn is_locked(path: &Path) -> bool {
    let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
    let process = format!(" {} ", std::process::id());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains(&process) && line.contains(&inode))
}

#[tokio::test]
async fn who_opens_a_file_twice_keeps_its_lock_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = SqliteTasks::open(Config::new(&path)).await.unwrap();
    store.enqueue(vec![task(0)]).await.unwrap();
    assert!(is_locked(&path));
    SqliteTasks::open(Config::new(&path)).await.unwrap().close().await.unwrap();
    assert!(is_locked(&path));
    store.close().await.unwrap();
    assert!(!is_locked(&path));
}

#[tokio::test]
async fn what_was_accepted_outlives_a_log_that_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let store = SqliteTasks::open(Config::new(&path)).await.unwrap();
    store.enqueue(vec![task(0)]).await.unwrap();
    for name in ["omniq.db-wal", "omniq.db-shm"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    let error = store.enqueue(vec![task(1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("omniq.db-wal"), "{error}");
    let error = store.count(&Filter::default()).await.unwrap_err();
    assert!(error.to_string().contains("omniq.db-wal"), "{error}");
    // Whoever comes now finds what was accepted, and who lost the log does no harm to the next one.
    add(&path, 1);
    let error = SqliteTasks::open(Config::new(&path)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    store.close().await.unwrap();
    let error = SqliteTasks::open(Config::new(&path)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    add(&path, 2);
}
