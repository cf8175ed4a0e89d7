//! What processes do to a store while they die or share it, and what must be there afterwards, whatever the store.
//!
//! Each test starts its own program again as the child, which finds its role and the place in its environment.
#![allow(dead_code, reason = "each test uses another part")]

#[path = "task.rs"]
mod sample;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use omniq_model::{Lane, Payload, SessionId, State, TaskResult, Timestamp};
use omniq_store::{
    End, Enqueued, Filter, Finished, Held, How, Lease, Select, Session, TaskStore, Want, WorkerInfo,
};

pub use self::sample::task;

/// What the child is to do.
pub const ROLE: &str = "OMNIQ_TEST_ROLE";
/// What tells it from others.
pub const NUMBER: &str = "OMNIQ_TEST_NUMBER";

/// By when every lease is over.
pub const LATER: Timestamp = Timestamp::from_millis(i64::MAX / 2);

/// Tasks that each process enqueues which shares a store.
pub const EACH: u64 = 300;

/// Runs this program again in that role, told by these variables where the store is.
pub fn start<V: AsRef<OsStr>>(
    role: &str,
    place: impl IntoIterator<Item = (&'static str, V)>,
    number: u64,
    failpoint: &str,
) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(NUMBER, number.to_string())
        .env("OMNIQ_FAILPOINT", failpoint)
        .envs(place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub async fn session(store: &dyn TaskStore, id: u64) -> Session {
    let lease = Duration::from_secs(3600);
    store.open_session(SessionId::new(id), &WorkerInfo::default(), lease).await.unwrap()
}

pub async fn claim(store: &dyn TaskStore, session: &Session, max: usize) -> Vec<Lease> {
    store.claim(session, &[Want::new(Lane::default(), max, 7)]).await.unwrap()
}

pub fn ends(leases: &[Lease]) -> Vec<End> {
    let how = || How::Succeeded(TaskResult::success(Payload::cbor([7])).into());
    leases.iter().map(|lease| End { id: lease.id, token: lease.token, how: how() }).collect()
}

/// The calls of [`steps`] that change how many tasks stand where, in their order.
pub const KINDS: [&str; 6] = ["enqueue", "claim", "finish", "cancel", "retry", "close_session"];

/// One call of each kind after the other; a failpoint ends it somewhere.
pub async fn steps(store: &dyn TaskStore) {
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
    store.close().await.unwrap();
}

/// How many tasks stand where after the first of [`KINDS`].
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

/// All that is there is what was committed, and the rest of the work can be done, each task once. `done`: how many of
/// [`KINDS`] may have been done when `failpoint` ended them. The store's clock is at [`LATER`].
pub async fn check_after_death(store: &dyn TaskStore, failpoint: &str, done: &[usize]) {
    let counts = store.count(&Filter::default()).await.unwrap();
    assert!(done.iter().any(|done| counts == after(*done)), "{failpoint}: {counts:?}");
    let mut listed = BTreeMap::new();
    for info in store.list(&Filter::default(), None, 100).await.unwrap().items {
        *listed.entry(info.head.state).or_insert(0) += 1;
    }
    assert_eq!(listed, counts, "{failpoint}: counts and tasks agree");
    // Whoever repeats the enqueue gets the same tasks, and whoever comes next finishes them.
    let fresh = counts.is_empty();
    for (number, answer) in (0..10).zip(store.enqueue((0..10).map(task).collect()).await.unwrap()) {
        let fits = match answer {
            Enqueued::Created => fresh,
            Enqueued::Duplicate { id, .. } => !fresh && id == task(number).id,
            _ => false,
        };
        assert!(fits, "{failpoint}: {answer:?}");
    }
    store.reclaim(100).await.unwrap();
    let session = session(store, 2).await;
    let leases = claim(store, &session, 100).await;
    let answers = store.finish(&session, ends(&leases)).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Finished::Applied(State::Succeeded)));
    assert!(store.is_idle().await.unwrap(), "{failpoint}");
}

/// Enqueues its own tasks one by one and lives whatever it gets, beside others that do the same.
pub async fn share(store: &dyn TaskStore, number: u64) {
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

/// All tasks of so many processes have ended, each after one claim.
pub async fn check_shared(store: &dyn TaskStore, processes: u64) {
    let counts = store.count(&Filter::default()).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(State::Succeeded, processes * EACH)]));
    let page = store.list(&Filter::default(), None, usize::MAX).await.unwrap();
    assert_eq!(page.items.len() as u64, processes * EACH);
    assert!(page.items.iter().all(|info| info.head.fence == 1), "each was claimed once");
}
