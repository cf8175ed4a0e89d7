//! Processes that die in the midst of it, and several in one folder. Each test starts this program again as the child.

#![cfg(feature = "object")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::object::{Config, ObjectTasks, Root};
use omniq_store::{
    Clock, Durability, End, Enqueued, ErrorKind, Filter, Finished, Held, How, Lease, ManualClock,
    Result, Select, Session, SystemClock, TaskStore, Want, WorkerInfo,
};

const FOLDER: &str = "OMNIQ_TEST_FOLDER";
const ROLE: &str = "OMNIQ_TEST_ROLE";
const NUMBER: &str = "OMNIQ_TEST_NUMBER";
const IMAGE_EVERY: &str = "OMNIQ_TEST_IMAGE_EVERY";

/// Runs this program again in that role; `number` tells children apart.
fn start(role: &str, folder: &Path, number: u64, failpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .env("OMNIQ_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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

fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    Task::new(TaskId::derived(&[&number.to_be_bytes()]), module, "f", Payload::cbor([0xa0]))
}

async fn session(store: &ObjectTasks, id: u64, lease: Duration) -> Result<Session> {
    store.open_session(SessionId::new(id), &WorkerInfo::default(), lease).await
}

fn ends(leases: &[Lease]) -> Vec<End> {
    let how = || How::Succeeded(TaskResult::success(Payload::cbor([7])));
    leases.iter().map(|lease| End { id: lease.id, token: lease.token, how: how() }).collect()
}

const LONG: Duration = Duration::from_secs(3600);

/// One call of each kind after the other; a failpoint ends it somewhere.
async fn steps(store: &ObjectTasks) {
    let session = session(store, 1, LONG).await.unwrap();
    store.enqueue((0..10).map(task).collect()).await.unwrap();
    let leases = store.claim(&session, &[Want::new(Lane::default(), 6, 7)]).await.unwrap();
    store.heartbeat(&session, Held::default()).await.unwrap();
    store.finish(&session, ends(&leases[..4])).await.unwrap();
    let ids = vec![task(9).id];
    let select = Select { filter: Filter { ids, ..Filter::default() }, max: 1 };
    store.cancel(&select).await.unwrap();
    store.retry(&select).await.unwrap();
    store.close_session(&session).await.unwrap();
    store.close().await.unwrap();
}

/// How many tasks stand where after the steps up to a kind of call.
fn after(steps: usize) -> BTreeMap<State, u64> {
    use State::{Cancelled, Ready, Running, Succeeded};
    let counts: &[(State, u64)] = match steps {
        0 => &[],
        1 => &[(Ready, 10)],
        2 => &[(Ready, 4), (Running, 6)],
        3 => &[(Ready, 4), (Running, 2), (Succeeded, 4)],
        4 => &[(Ready, 3), (Running, 2), (Succeeded, 4), (Cancelled, 1)],
        5 => &[(Ready, 4), (Running, 2), (Succeeded, 4)],
        _ => &[(Ready, 6), (Succeeded, 4)],
    };
    counts.iter().copied().collect()
}

/// All that is there is what was committed, and the rest of the work can be done, each task once. `done`: how many of the
/// steps may have been.
async fn check_after_death(failpoint: &str, done: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let status = start("steps", folder.path(), 0, failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let now = Timestamp::from_millis(i64::MAX / 2); // every lease is over by then
    let config = Config { clock: Arc::new(ManualClock::new(now)), ..config(folder.path()) };
    let store = ObjectTasks::open(config).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert!(done.iter().any(|done| counts == after(*done)), "{failpoint}: {counts:?}");
    // Whoever repeats the enqueue gets the same tasks, and whoever comes next finishes them.
    let fresh = counts.is_empty();
    for answer in store.enqueue((0..10).map(task).collect()).await.unwrap() {
        assert_eq!(answer == Enqueued::Created, fresh, "{failpoint}: {answer:?}");
    }
    store.reclaim(100).await.unwrap();
    let session = session(&store, 2, LONG).await.unwrap();
    let leases = store.claim(&session, &[Want::new(Lane::default(), 100, 7)]).await.unwrap();
    let answers = store.finish(&session, ends(&leases)).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    assert!(store.is_idle().await.unwrap(), "{failpoint}");
}

#[tokio::test]
async fn a_death_around_a_commit_loses_nothing_and_doubles_nothing() {
    let kinds = ["enqueue", "claim", "finish", "cancel", "retry", "close_session"];
    for (done, kind) in kinds.into_iter().enumerate() {
        check_after_death(&format!("log.{kind}.before_append"), &[done]).await;
        check_after_death(&format!("log.{kind}.after_append"), &[done + 1]).await;
        check_after_death(&format!("log.{kind}.before_answer"), &[done + 1]).await;
    }
    // The first entry opens the session, the second one enqueues.
    check_after_death("file.append.before_write:2", &[0]).await;
    check_after_death("file.append.before_sync:2", &[0, 1]).await;
    check_after_death("file.append.after_sync:2", &[1]).await;
    check_after_death("file.image.before_write", &[1, 2, 3, 4, 5, 6]).await;
    check_after_death("file.image.before_prune", &[1, 2, 3, 4, 5, 6]).await;
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
    let session = again(async || session(store, start << 4 | number, lease).await).await;
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
