//! Processes that die in the midst of it, and several on one file. Each test starts this program again as the child.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{
    End, Enqueued, Filter, Finished, Held, How, Lease, ManualClock, Select, Session, TaskStore,
    Want, WorkerInfo,
};

const FILE: &str = "OMNIQ_TEST_FILE";
const ROLE: &str = "OMNIQ_TEST_ROLE";
const NUMBER: &str = "OMNIQ_TEST_NUMBER";

/// Runs this program again in that role; `number` tells children apart.
fn start(role: &str, path: &Path, number: u64, failpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(FILE, path)
        .env(NUMBER, number.to_string())
        .env("OMNIQ_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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

fn task(number: u64) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    Task::new(TaskId::derived(&[&number.to_be_bytes()]), module, "f", Payload::cbor([0xa0]))
}

async fn session(store: &SqliteTasks, id: u64) -> Session {
    let lease = Duration::from_secs(3600);
    store.open_session(SessionId::new(id), &WorkerInfo::default(), lease).await.unwrap()
}

async fn claim(store: &SqliteTasks, session: &Session, max: usize) -> Vec<Lease> {
    store.claim(session, &[Want::new(Lane::default(), max, 7)]).await.unwrap()
}

fn ends(leases: &[Lease]) -> Vec<End> {
    let how = || How::Succeeded(TaskResult::success(Payload::cbor([7])));
    leases.iter().map(|lease| End { id: lease.id, token: lease.token, how: how() }).collect()
}

/// One call of each kind after the other; a failpoint ends it somewhere.
async fn steps(store: &SqliteTasks) {
    let session = session(store, 1).await;
    store.enqueue((0..10).map(task).collect()).await.unwrap();
    let leases = claim(store, &session, 6).await;
    store.heartbeat(&session, Held::default()).await.unwrap();
    store.finish(&session, ends(&leases[..4])).await.unwrap();
    let ids = vec![task(9).id];
    let select = Select { filter: Filter { ids, ..Filter::default() }, max: 1 };
    store.cancel(&select).await.unwrap();
    store.retry(&select).await.unwrap();
    store.close_session(&session).await.unwrap();
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

/// All that is there is what was committed, and the rest of the work can be done, each task once.
async fn check_after_death(kind: &str, place: &str, done: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.db");
    let failpoint = format!("sqlite.{kind}.{place}");
    let status = start("steps", &path, 0, &failpoint).wait().unwrap();
    assert!(!status.success(), "{failpoint} was not hit");
    let now = Timestamp::from_millis(i64::MAX / 2); // every lease is over by then
    let config = Config { clock: Arc::new(ManualClock::new(now)), ..Config::new(&path) };
    let store = SqliteTasks::open(config).await.unwrap();
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, after(done), "{failpoint}");
    let mut listed = BTreeMap::new();
    for info in store.list(&Filter::default(), None, 100).await.unwrap().items {
        *listed.entry(info.head.state).or_insert(0) += 1;
    }
    assert_eq!(listed, counts, "{failpoint}: counts and tasks agree");
    // Whoever repeats the enqueue gets the same tasks, and whoever comes next finishes them.
    for (number, answer) in (0..10).zip(store.enqueue((0..10).map(task).collect()).await.unwrap()) {
        let fits = match answer {
            Enqueued::Created => done == 0,
            Enqueued::Duplicate { id, .. } => done > 0 && id == task(number).id,
            _ => false,
        };
        assert!(fits, "{failpoint}: {answer:?}");
    }
    store.reclaim(100).await.unwrap();
    let session = session(&store, 2).await;
    let leases = claim(&store, &session, 100).await;
    let answers = store.finish(&session, ends(&leases)).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    assert!(store.is_idle().await.unwrap(), "{failpoint}");
}

#[tokio::test]
async fn a_death_around_a_commit_loses_nothing_and_doubles_nothing() {
    let kinds = ["enqueue", "claim", "finish", "cancel", "retry", "close_session"];
    for (done, kind) in kinds.into_iter().enumerate() {
        check_after_death(kind, "before_commit", done).await;
        check_after_death(kind, "after_commit", done + 1).await;
    }
}

const EACH: u64 = 300;

/// Enqueues its own tasks one by one and lives whatever it gets, beside others that do the same.
async fn share(store: &SqliteTasks, number: u64) {
    let session = session(store, number + 1).await;
    for own in 0..EACH {
        let answers = store.enqueue(vec![task(number * EACH + own)]).await.unwrap();
        assert_eq!(answers, [Enqueued::Created]);
        let leases = claim(store, &session, 3).await;
        let answers = store.finish(&session, ends(&leases)).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    }
    store.close_session(&session).await.unwrap();
    store.close().await.unwrap();
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
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(State::Succeeded, PROCESSES * EACH)]));
    let page = store.list(&Filter::default(), None, usize::MAX).await.unwrap();
    assert_eq!(page.items.len() as u64, PROCESSES * EACH);
    assert!(page.items.iter().all(|info| info.head.fence == 1), "each was claimed once");
}
