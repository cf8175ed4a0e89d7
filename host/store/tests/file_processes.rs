//! Processes that die in the midst of it, and several in one folder. Each test starts this program again as the child.

#![cfg(feature = "object")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/processes.rs"]
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{Lane, SessionId, State};
use omniq_store::object::{Config, ObjectTasks, Root};
use omniq_store::{
    Clock, Durability, Enqueued, ErrorKind, Filter, Held, ManualClock, Result, SystemClock,
    TaskStore, Want, WorkerInfo,
};

use processes::{KINDS, LATER, NUMBER, ROLE, check_after_death, ends, steps, task};

const FOLDER: &str = "OMNIQ_TEST_FOLDER";
const IMAGE_EVERY: &str = "OMNIQ_TEST_IMAGE_EVERY";

fn start(role: &str, folder: &Path, number: u64, failpoint: &str) -> Child {
    processes::start(role, [(FOLDER, folder)], number, failpoint)
}

/// With images so often that every part of keeping them is met.
fn config(folder: &Path) -> Config {
    let root = Root::folder(folder, Durability::Disk).unwrap();
    let every = std::env::var(IMAGE_EVERY).ok().and_then(|every| every.parse().ok());
    Config { image_every: every.unwrap_or(600), ..Config::new(root) }
}

/// Not a test of its own: what children do.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let number = std::env::var(NUMBER).unwrap().parse().unwrap();
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let store = ObjectTasks::open(config(&folder)).await.unwrap();
    match role.as_str() {
        "steps" => steps(&store).await,
        "share" => share(&store, &folder, number).await,
        "fill" => fill(&store, &folder).await,
        other => panic!("`{other}` is no role"),
    }
}

/// `done`: how many of the steps may have been done.
async fn check(failpoint: &str, done: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let status = start("steps", folder.path(), 0, failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let config = Config { clock: Arc::new(ManualClock::new(LATER)), ..config(folder.path()) };
    let store = ObjectTasks::open(config).await.unwrap();
    check_after_death(&store, failpoint, done).await;
}

#[tokio::test]
async fn a_death_around_a_commit_loses_nothing_and_doubles_nothing() {
    for (done, kind) in KINDS.into_iter().enumerate() {
        check(&format!("log.{kind}.before_append"), &[done]).await;
        check(&format!("log.{kind}.after_append"), &[done + 1]).await;
        check(&format!("log.{kind}.before_answer"), &[done + 1]).await;
    }
    // The first entry opens the session, the second one enqueues.
    check("file.append.before_write:2", &[0]).await;
    check("file.append.before_sync:2", &[0, 1]).await;
    check("file.append.after_sync:2", &[1]).await;
    check("file.image.before_write", &[1, 2, 3, 4, 5, 6]).await;
    check("file.image.before_rename", &[1, 2, 3, 4, 5, 6]).await;
    check("file.image.before_prune", &[1, 2, 3, 4, 5, 6]).await;
}

const EACH: u64 = 400;

/// What is asked again until somebody answers: owners come and go.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(error.kind().is_passing(), "{error:?}"),
        }
    }
}

/// Enqueues its own tasks one by one, writes down which were accepted, and lives whatever it gets, beside others that do
/// the same. What a life before this one wrote down is not enqueued again.
async fn share(store: &ObjectTasks, folder: &Path, number: u64) {
    let path = folder.join(format!("accepted-{number}"));
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<u64> = known.lines().filter_map(|line| line.parse().ok()).collect();
    let mut accepted = std::fs::File::options().append(true).create(true).open(&path).unwrap();
    let start = SystemClock::default().now().as_millis().unsigned_abs();
    let lease = Duration::from_millis(500);
    let id = SessionId::new(start << 4 | number);
    let worker = WorkerInfo::default();
    let session = again(async || store.open_session(id, &worker, lease).await).await;
    let mut nonce = 0;
    let mut live = async || {
        nonce += 1;
        again(async || store.heartbeat(&session, Held::default()).await).await;
        again(async || store.reclaim(100).await).await;
        let wants = [Want::new(Lane::default(), 3, nonce)];
        let leases = again(async || store.claim(&session, &wants).await).await;
        again(async || store.finish(&session, ends(&leases)).await).await;
    };
    for own in (number * EACH..(number + 1) * EACH).filter(|own| !known.contains(own)) {
        let answers = again(async || store.enqueue(vec![task(own)]).await).await;
        assert!(matches!(answers[..], [Enqueued::Created | Enqueued::Duplicate { .. }]));
        accepted.write_all(format!("{own}\n").as_bytes()).unwrap();
        live().await;
    }
    while !again(async || store.is_idle().await).await {
        live().await;
    }
    store.close().await.unwrap();
}

fn accepted(folder: &Path, processes: u64) -> usize {
    let read = |number| std::fs::read_to_string(folder.join(format!("accepted-{number}")));
    (0..processes).map(|number| read(number).unwrap_or_default().lines().count()).sum()
}

#[tokio::test]
async fn processes_share_a_folder_and_killing_any_of_them_loses_nothing() {
    const PROCESSES: u64 = 3;
    let folder = tempfile::tempdir().unwrap();
    let run = |number| start("share", folder.path(), number, "");
    let mut children: Vec<Child> = (0..PROCESSES).map(run).collect();
    let (begun, mut killed) = (Instant::now(), 0);
    while accepted(folder.path(), PROCESSES) < (PROCESSES * EACH) as usize {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not get on");
        tokio::time::sleep(Duration::from_millis(60 + 7 * killed % 50)).await;
        if killed == 40 {
            continue; // enough: now they are to get done
        }
        let number = killed % PROCESSES;
        let child = &mut children[number as usize];
        child.kill().unwrap();
        child.wait().unwrap();
        *child = run(number);
        killed += 1;
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = ObjectTasks::open(config(folder.path())).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    println!("{killed} processes were killed; {counts:?}");
    assert!(killed > 5, "they were done before they could be killed");
    assert_eq!(counts, BTreeMap::from([(State::Succeeded, PROCESSES * EACH)]));
}

/// Enqueues until there is no room, and writes down how many were accepted.
async fn fill(store: &ObjectTasks, folder: &Path) {
    let mut accepted = 0;
    let error = loop {
        let batch = (accepted..accepted + 10).map(task).collect();
        match store.enqueue(batch).await {
            Ok(_) => accepted += 10,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(State::Ready, accepted)]), "nothing of it is there");
    std::fs::write(folder.join("accepted"), accepted.to_string()).unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_a_commit_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    // A file may have 64 KiB, and whoever writes more is told so instead of being killed. Images come later than that.
    let limited = "trap '' XFSZ; ulimit -f 128; exec \"$0\" child --exact";
    let status = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, "fill")
        .env(FOLDER, folder.path())
        .env(NUMBER, "0")
        .env(IMAGE_EVERY, "1000000")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let accepted = std::fs::read_to_string(folder.path().join("accepted")).unwrap();
    let store = ObjectTasks::open(config(folder.path())).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(State::Ready, accepted.parse().unwrap())]));
    assert!(counts[&State::Ready] > 100);
}

#[tokio::test]
async fn a_log_that_is_deleted_while_it_is_open_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectTasks::open(Config { image_every: 1 << 20, ..config(folder.path()) });
    let store = store.await.unwrap();
    store.enqueue(vec![task(1)]).await.unwrap();
    std::fs::remove_file(folder.path().join("tasks/log-00000000000000000001")).unwrap();
    let error = store.enqueue(vec![task(2)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("was deleted while it was open"), "{source}");
}

const LOG: &str = "tasks/log-00000000000000000001";

/// With so much log before an image that all is in one file.
async fn open(folder: &Path) -> ObjectTasks {
    ObjectTasks::open(Config { image_every: 1 << 20, ..config(folder) }).await.unwrap()
}

async fn are_there(store: &ObjectTasks, numbers: impl IntoIterator<Item = u64>) -> bool {
    let ids: Vec<_> = numbers.into_iter().map(|number| task(number).id).collect();
    store.get(&ids).await.unwrap().iter().all(Option::is_some)
}

/// The lock is the folder's: people take a lock file for something that was left behind.
#[tokio::test]
async fn a_lock_file_that_is_deleted_makes_nobody_a_second_owner() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await;
    first.enqueue(vec![task(0)]).await.unwrap();
    std::fs::remove_file(folder.path().join("tasks/lock")).unwrap();
    let second = open(folder.path()).await;
    for number in (1..20).step_by(2) {
        second.enqueue(vec![task(number)]).await.unwrap();
        first.enqueue(vec![task(number + 1)]).await.unwrap();
    }
    assert!(are_there(&first, 0..21).await && are_there(&second, 0..21).await);
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert!(are_there(&open(folder.path()).await, 0..21).await, "what was accepted is there");
}

/// Somebody restores a backup while a process is at work: over its files, or with the folder put in place of another.
#[tokio::test]
async fn what_is_accepted_after_a_backup_was_put_in_place_is_there_later() {
    for replaces_folder in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (log, tasks) = (folder.path().join(LOG), folder.path().join("tasks"));
        let store = open(folder.path()).await;
        store.enqueue(vec![task(1)]).await.unwrap();
        let backup = std::fs::read(&log).unwrap();
        for number in 2..9 {
            store.enqueue(vec![task(number)]).await.unwrap();
        }
        if replaces_folder {
            std::fs::rename(&tasks, folder.path().join("before")).unwrap();
            std::fs::create_dir(&tasks).unwrap();
        }
        std::fs::write(&log, &backup).unwrap();
        let accepted = store.enqueue(vec![task(9)]).await;
        if let Err(error) = &accepted {
            assert!(error.kind().is_passing(), "{error:?}");
            again(async || store.enqueue(vec![task(9)]).await).await;
        }
        assert!(are_there(&store, [1, 9]).await);
        store.close().await.unwrap();
        let later = open(folder.path()).await;
        assert!(are_there(&later, [1, 9]).await, "{replaces_folder}: {accepted:?} and is lost");
        assert!(!are_there(&later, [8]).await, "it was not in the backup");
    }
}

#[tokio::test]
async fn what_is_left_of_an_image_that_was_not_done_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let status = start("steps", folder.path(), 0, "file.image.before_rename").wait().unwrap();
    assert!(!status.success());
    let drafts = || {
        let names = std::fs::read_dir(folder.path().join("tasks")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".draft")).count()
    };
    assert_eq!(drafts(), 1);
    open(folder.path()).await.close().await.unwrap();
    assert_eq!(drafts(), 0);
}
