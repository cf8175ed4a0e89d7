//! What happens to leases when the clock of the machine is set, or the machine sleeps.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, Timestamp};
use omniq_store::memory::MemoryTasks;
#[cfg(feature = "nats")]
use omniq_store::nats::{self, NatsTasks};
#[cfg(feature = "object")]
use omniq_store::object::{self, ObjectTasks, Root};
#[cfg(feature = "sqlite")]
use omniq_store::sqlite::{Config, SqliteTasks};
use omniq_store::{Beat, Held, ManualClock, Session, TaskStore, Want, WorkerInfo};

const LEASE: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(3600);
const TICK: Duration = Duration::from_millis(1);

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_millis(1_800_000_000_000))
}

async fn session(store: &dyn TaskStore, id: u64) -> Session {
    store.open_session(SessionId::new(id), &WorkerInfo::default(), LEASE).await.unwrap()
}

/// A task that the session holds from now on.
async fn held(store: &dyn TaskStore, session: &Session) -> TaskId {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    let id = TaskId::derived(&[&session.id.get().to_be_bytes()]);
    store.enqueue(vec![Task::new(id, module, "f", Payload::cbor([0xa0]))]).await.unwrap();
    let leases = store.claim(session, &[Want::new(Lane::default(), 1, 7)]).await.unwrap();
    assert_eq!(leases.len(), 1);
    id
}

async fn is_alive(store: &dyn TaskStore, session: &Session) -> bool {
    matches!(store.heartbeat(session, Held::default()).await.unwrap(), Beat::Alive { .. })
}

async fn crashes(store: &dyn TaskStore, id: TaskId) -> (State, u32) {
    let info = store.get(&[id]).await.unwrap().remove(0).unwrap();
    (info.head.state, info.head.crashes)
}

/// The owner of a bucket says nothing until it has found out that it still is.
async fn until_it_speaks(store: &dyn TaskStore) {
    while let Err(error) = store.is_idle().await {
        assert!(error.kind().is_passing(), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The machine sleeps for an hour while one worker runs a task and another one has died.
async fn a_leap_kills_nobody(store: &dyn TaskStore, clock: &ManualClock) {
    let dead = session(store, 1).await;
    let lost = held(store, &dead).await;
    clock.advance(LEASE + TICK);
    let living = session(store, 2).await;
    let kept = held(store, &living).await;
    clock.advance(LEASE / 2);
    clock.leap(HOUR);
    until_it_speaks(store).await;

    let moved = store.reclaim(10).await.unwrap();
    assert_eq!(moved.iter().map(|moved| moved.id).collect::<Vec<_>>(), [lost]);
    assert_eq!(crashes(store, kept).await, (State::Running, 0));
    assert!(!is_alive(store, &dead).await);
    // It has what was left of its lease at least, and a whole one from its next report.
    clock.advance(LEASE / 2);
    assert!(is_alive(store, &living).await);
    clock.advance(LEASE);
    assert!(is_alive(store, &living).await);
    // From then on it is like any other.
    clock.advance(LEASE + TICK);
    assert!(!is_alive(store, &living).await);
    assert_eq!(store.reclaim(10).await.unwrap().len(), 1);
    assert_eq!(crashes(store, kept).await, (State::Ready, 1));
}

#[tokio::test]
async fn a_machine_that_slept_kills_no_worker_in_memory() {
    let clock = clock();
    let store = MemoryTasks::new(Arc::new(clock.clone()));
    a_leap_kills_nobody(&store, &clock).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_machine_that_slept_kills_no_worker_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let config = Config::new(folder.path().join("q.db"));
    let config = Config { clock: Arc::new(clock.clone()), ..config };
    let store = SqliteTasks::open(config.clone()).await.unwrap();
    // A second process: it notices the same leap.
    let other = SqliteTasks::open(config).await.unwrap();
    a_leap_kills_nobody(&store, &clock).await;
    let session = session(&store, 9).await;
    clock.leap(HOUR);
    assert!(is_alive(&store, &session).await);
    assert!(other.reclaim(10).await.unwrap().is_empty());
    assert!(is_alive(&store, &session).await);
    clock.advance(LEASE + TICK);
    assert!(!is_alive(&store, &session).await, "two who noticed gave it one lease, not two");
}

#[cfg(feature = "object")]
#[tokio::test]
async fn a_machine_that_slept_kills_no_worker_on_files_and_buckets() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Arc::new(object_store::memory::InMemory::new());
    for root in [
        Root::folder(folder.path(), omniq_store::Durability::Disk).unwrap(),
        Root::of(bucket, object_store::path::Path::default(), "memory"),
    ] {
        let clock = clock();
        let config = object::Config {
            clock: Arc::new(clock.clone()),
            lease: Duration::from_secs(2),
            ..object::Config::new(root)
        };
        let store = ObjectTasks::open(config.clone()).await.unwrap();
        a_leap_kills_nobody(&store, &clock).await;
        // Whoever reads the log comes to the same.
        let session = session(&store, 9).await;
        clock.leap(HOUR);
        until_it_speaks(&store).await;
        assert!(store.reclaim(10).await.unwrap().is_empty());
        store.close().await.unwrap();
        let store = ObjectTasks::open(config).await.unwrap();
        clock.advance(LEASE);
        assert!(is_alive(&store, &session).await);
        clock.advance(LEASE + TICK);
        assert!(!is_alive(&store, &session).await);
    }
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn a_machine_that_slept_kills_no_worker_on_nats() {
    let clock = clock();
    let url = omniq_services::nats().url();
    let server = url.trim_start_matches("nats://").to_owned();
    let config = nats::Config {
        clock: Some(Arc::new(clock.clone())),
        ..nats::Config::new(vec![server], "clocks")
    };
    let store = NatsTasks::open(config.clone()).await.unwrap();
    // A second process: it notices the same leap.
    let other = NatsTasks::open(config.clone()).await.unwrap();
    a_leap_kills_nobody(&store, &clock).await;
    let session = session(&store, 9).await;
    clock.leap(HOUR);
    assert!(is_alive(&store, &session).await);
    other.close_session(&self::session(&other, 10).await).await.unwrap();
    assert!(is_alive(&store, &session).await);
    clock.advance(LEASE + TICK);
    assert!(!is_alive(&store, &session).await, "two who noticed gave it one lease, not two");

    // Where others could report, it was alive only who did.
    let (silent, speaks) = (self::session(&store, 11).await, self::session(&store, 12).await);
    clock.advance(LEASE / 2);
    assert!(is_alive(&other, &speaks).await);
    let awake = nats::Config { clock: Some(Arc::new(Steady(clock.clone()))), ..config };
    let awake = NatsTasks::open(awake).await.unwrap();
    clock.leap(LEASE);
    assert!(is_alive(&awake, &speaks).await);
    assert!(!is_alive(&store, &silent).await, "it was only this machine that slept");
}

/// The clock of a machine that did not sleep.
#[cfg(feature = "nats")]
#[derive(Debug)]
struct Steady(ManualClock);

#[cfg(feature = "nats")]
impl omniq_store::Clock for Steady {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn who_starts_after_the_clock_was_set_back_is_alive_to_those_who_started_before() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("q.db"));
    let before = clock();
    before.advance(HOUR);
    let old = Config { clock: Arc::new(before.clone()), ..config.clone() };
    let old = SqliteTasks::open(old).await.unwrap();
    let first = session(&old, 1).await;
    let held_by_first = held(&old, &first).await;

    // An hour earlier, as its machine's clock says.
    let new = SqliteTasks::open(Config { clock: Arc::new(clock()), ..config }).await.unwrap();
    let second = session(&new, 2).await;
    let held_by_second = held(&new, &second).await;
    before.advance(LEASE / 2);
    assert!(old.reclaim(10).await.unwrap().is_empty());
    assert!(new.reclaim(10).await.unwrap().is_empty());
    for id in [held_by_first, held_by_second] {
        assert_eq!(crashes(&old, id).await, (State::Running, 0));
    }
    assert!(is_alive(&old, &first).await && is_alive(&new, &second).await);
}
