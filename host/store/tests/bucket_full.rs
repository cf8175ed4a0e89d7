//! A bucket that has no room: everybody is told so, nothing that was acknowledged is lost, all can look at the tasks, and what
//! could not be kept is kept when there is room again.
#![cfg(feature = "cloud")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/task.rs"]
mod sample;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use omniq_model::{Lane, Payload, SessionId, Span, State, TaskResult};
use omniq_services::{Quota, Room};
use omniq_store::object::{Config, ObjectResults, ObjectTasks, Root};
use omniq_store::{
    End, Enqueued, ErrorKind, Filter, Finished, How, Options, Result, ResultKey, ResultStore,
    Session, StagedResult, SystemClock, TaskStore, Want, WorkerInfo,
};

use self::sample::task;

/// How long the owner of the bucket may be silent: what a full one makes of it takes longer, and the client tries for a
/// second or two before it says that there is no room.
const LEASE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own in the bucket behind that.
fn root(quota: &Quota, folder: &str) -> Root {
    let url = omniq_services::s3().url_at(quota.addr());
    let url = url.replacen('?', &format!("/{folder}?lease={}&", LEASE.as_secs()), 1);
    omniq_store::object::open(&url, &Options::default()).unwrap()
}

async fn session(store: &ObjectTasks) -> Session {
    let lease = Duration::from_secs(3600);
    store.open_session(SessionId::new(1), &WorkerInfo::default(), lease).await.unwrap()
}

#[track_caller]
fn is_full<T: std::fmt::Debug>(answer: Result<T>, says: &str) {
    let error = answer.expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    let text = error.to_string();
    for part in ["s3://omniq/", " is full: it answers", says, "free some space"] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

/// Asks again until it is done: by then another process may have the tasks.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                let passes = error.kind().is_passing() || error.kind() == ErrorKind::Full;
                assert!(passes && begun.elapsed() < PATIENCE, "{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn comes_back(room: Room, folder: &str, says: &str) {
    let quota = Quota::before(omniq_services::s3().address());
    let root = root(&quota, folder);
    let open = async || ObjectTasks::open(Config::with(root.clone(), &Options::default())).await;
    let (owner, guest) = (open().await.unwrap(), open().await.unwrap());
    owner.enqueue((0..3).map(task).collect()).await.unwrap();
    let session = session(&owner).await;
    let leases = owner.claim(&session, &[Want::new(Lane::default(), 2, 7)]).await.unwrap();
    let how = || How::Succeeded(TaskResult::success(Payload::cbor([1])).into());
    let end = |lease: &omniq_store::Lease| End { id: lease.id, token: lease.token, how: how() };
    let ends: Vec<End> = leases.iter().map(end).collect();

    quota.set(room);
    let begun = Instant::now();
    is_full(owner.enqueue(vec![task(10)]).await, says);
    println!("{room:?}: refused after {:?}", begun.elapsed());
    let begun = Instant::now();
    is_full(owner.enqueue(vec![task(11)]).await, says);
    println!("{room:?}: another one after {:?}", begun.elapsed());
    is_full(guest.enqueue(vec![task(12)]).await, says);
    is_full(owner.finish(&session, ends.clone()).await, says);
    let late = open().await.unwrap();
    is_full(late.enqueue(vec![task(13)]).await, says);
    let results = ObjectResults::new(root.clone(), Arc::new(SystemClock::default()));
    let key = ResultKey { task: ends[0].id, token: ends[0].token };
    let ttl = Span::from_secs(60);
    let staged = StagedResult { key, value: Payload::cbor([1]), ttl };
    is_full(results.put(vec![staged]).await, says);
    // Longer than it takes others to believe that the owner is dead.
    let expected = BTreeMap::from([(State::Running, 2), (State::Ready, 1)]);
    let begun = Instant::now();
    while begun.elapsed() < LEASE * 3 {
        for store in [&owner, &guest, &late] {
            assert_eq!(store.count(&Filter::default()).await.unwrap(), expected, "{begun:?}");
        }
        let info = owner.get(&[ends[0].id, task(10).id]).await.unwrap();
        assert!(info[0].is_some() && info[1].is_none(), "{info:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_full(owner.enqueue(vec![task(10)]).await, says);
    assert!(quota.refused() > 0);

    quota.set(Room::Plenty);
    let done = again(async || owner.finish(&session, ends.clone()).await).await;
    let applied = |end: &Finished| matches!(end, Finished::Applied(_) | Finished::AppliedBefore(_));
    assert!(done.iter().all(applied), "{done:?}");
    for (store, number) in [(&owner, 20), (&guest, 21)] {
        let answers = again(async || store.enqueue(vec![task(number)]).await).await;
        assert!(matches!(answers[..], [Enqueued::Created | Enqueued::Duplicate { .. }]));
    }
    let expected = BTreeMap::from([(State::Succeeded, 2), (State::Ready, 3)]);
    for store in [&owner, &guest, &late] {
        let counts = again(async || store.count(&Filter::default()).await).await;
        assert_eq!(counts, expected, "what was refused is not there");
    }
    owner.close().await.unwrap();
    guest.close().await.unwrap();
    late.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_on_full_disks_comes_back() {
    comes_back(Room::None, "full", "507 Insufficient Storage: No space is left").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bucket_whose_quota_is_used_up_comes_back() {
    comes_back(Room::NoneAllowed, "quota", "403 Forbidden: The quota is used up").await;
}
