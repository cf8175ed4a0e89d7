//! Producers and workers on a store in NATS while something is done to its servers, and what must hold afterwards.
#![allow(dead_code, reason = "each test uses another part")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq_conformance::dump;
use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::nats::{Config, NatsTasks};
use omniq_store::{
    End, Enqueued, ErrorKind, Filter, Finished, How, Session, TaskStore, Want, WorkerInfo,
};

/// Longer than servers are away.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn config(address: impl ToString, name: &str) -> Config {
    let patience = Duration::from_secs(5);
    Config { patience, ..Config::new(vec![address.to_string()], name) }
}

pub async fn open(config: &Config) -> NatsTasks {
    NatsTasks::open(config.clone()).await.expect("the store opens")
}

pub fn fresh() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

pub fn success(bytes: &[u8]) -> How {
    How::Succeeded(TaskResult::success(Payload::raw(bytes)).into())
}

pub fn task() -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "job".parse().expect("it is a name"),
        version: "1.0.0".parse().expect("it is a name"),
        unknown: Default::default(),
    };
    let mut random = [0; 10];
    random[2..].copy_from_slice(&fresh().to_be_bytes());
    let id = TaskId::new(Timestamp::from_millis(1_700_000_000_000), random);
    Task::new(id, module, "run", Payload::cbor([0xa0]))
}

pub async fn session(store: &NatsTasks) -> Session {
    let (id, worker) = (SessionId::new(fresh()), WorkerInfo::default());
    again(|| store.open_session(id, &worker, Duration::from_secs(600))).await
}

/// Repeats a call until it is answered, as every caller may.
pub async fn again<T, F: Future<Output = omniq_store::Result<T>>>(call: impl Fn() -> F) -> T {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                let may_pass = error.kind() == ErrorKind::Unavailable && begun.elapsed() < PATIENCE;
                assert!(may_pass, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

pub async fn count(store: &NatsTasks, state: State) -> u64 {
    let all = Filter::default();
    again(|| store.count(&all)).await.get(&state).copied().unwrap_or(0)
}

/// Two processes see the same, to the last field.
pub async fn agree(one: &NatsTasks, other: &NatsTasks) {
    assert_eq!(format!("{:?}", dump(one).await), format!("{:?}", dump(other).await));
}

/// Enqueues until it is told to stop; the ids of what was acknowledged.
pub async fn produce(store: NatsTasks, stop: Arc<AtomicBool>) -> BTreeSet<TaskId> {
    let mut acked = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let tasks: Vec<_> = (0..5).map(|_| task()).collect();
        for answer in again(|| store.enqueue(tasks.clone())).await {
            assert!(matches!(answer, Enqueued::Created | Enqueued::Duplicate { .. }), "{answer:?}");
        }
        acked.extend(tasks.iter().map(|task| task.id));
    }
    acked
}

/// Works until it is told to stop and nothing is left; how many ends it was told are committed.
pub async fn work(store: NatsTasks, stop: Arc<AtomicBool>) -> u64 {
    let session = session(&store).await;
    let mut committed = 0;
    loop {
        let want = Want::new(Lane::default(), 20, fresh());
        let Ok(leases) = store.claim(&session, &[want]).await else {
            // What was leased by a lost answer is put back.
            again(|| store.reconcile(&session, &[])).await;
            continue;
        };
        if leases.is_empty() {
            if stop.load(Ordering::Relaxed) && count(&store, State::Ready).await == 0 {
                return committed;
            }
            continue;
        }
        let ends: Vec<_> = leases
            .iter()
            .map(|lease| End { id: lease.id, token: lease.token, how: success(b"done") })
            .collect();
        for finished in again(|| store.finish(&session, ends.clone())).await {
            assert_ne!(finished, Finished::Stale, "nobody else holds it");
            committed += 1;
        }
    }
}

/// Runs producers and workers of two processes while `disturb` does what it does; nothing that was acknowledged is lost,
/// nothing ends twice.
pub async fn survives(configs: [&Config; 2], disturb: impl AsyncFnOnce()) {
    let stores = [open(configs[0]).await, open(configs[1]).await];
    let (enough, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let producers = stores.clone().map(|store| tokio::spawn(produce(store, enough.clone())));
    let workers = stores.clone().map(|store| tokio::spawn(work(store, over.clone())));
    disturb().await;
    enough.store(true, Ordering::Relaxed);
    let mut acked = BTreeSet::new();
    for producer in producers {
        acked.extend(producer.await.expect("no producer fails"));
    }
    over.store(true, Ordering::Relaxed);
    let mut committed = 0;
    for worker in workers {
        committed += worker.await.expect("no worker fails");
    }
    let records = dump(&stores[0]).await;
    let there: BTreeSet<_> = records.iter().map(|info| info.id).collect();
    println!("{} acknowledged, {} there, {committed} ends committed", acked.len(), there.len());
    assert!(acked.is_subset(&there), "lost: {}", acked.difference(&there).count());
    assert!(records.iter().all(|info| info.head.state == State::Succeeded));
    assert_eq!(committed, there.len() as u64, "each ends once");
    assert!(acked.len() > 100, "it was up long enough to show something: {}", acked.len());
    agree(&stores[0], &stores[1]).await;
    for store in stores {
        store.close().await.expect("it closes");
    }
}
