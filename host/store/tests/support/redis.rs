//! A queue on a server that fails: producers and workers that repeat what failed, as the real ones do, and what must be
//! true at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omniq_model::{
    Digest, Lane, ModuleRef, Payload, SessionId, State, Task, TaskId, TaskResult, Timestamp,
};
use omniq_store::redis::{Config, RedisTasks};
use omniq_store::{
    Beat, End, Enqueued, ErrorKind, Filter, Finished, Held, How, Session, TaskStore, Want,
    WorkerInfo,
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A number that no other call gives.
pub fn fresh() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(1);
    MADE.fetch_add(1, Ordering::Relaxed)
}

/// The store of that name at `url`.
pub async fn open(url: &str, name: &str) -> RedisTasks {
    let mut config = Config::new(url).expect("the URL is right");
    config.name = name.to_owned();
    RedisTasks::open(config).await.expect("it opens")
}

/// A task whose arguments are so many bytes.
pub fn task(bytes: usize) -> Task {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&fresh().to_be_bytes());
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "job".parse().expect("it is a name"),
        version: "1".parse().expect("it is a name"),
        unknown: Default::default(),
    };
    let id = TaskId::new(Timestamp::from_millis(1_700_000_000_000), random);
    Task::new(id, module, "run", Payload::raw(vec![7; bytes]))
}

pub async fn session(store: &RedisTasks) -> Session {
    let lease = Duration::from_secs(15);
    repeat!(store.open_session(SessionId::new(fresh()), &WorkerInfo::default(), lease))
}

/// Claims up to `max` tasks of the default lane.
pub fn want(max: usize) -> Want {
    Want::new(Lane::default(), max, fresh())
}

pub fn success(id: TaskId, token: omniq_model::Token) -> End {
    End { id, token, how: How::Succeeded(TaskResult::success(Payload::raw(*b"done")).into()) }
}

/// Makes the same call again until it is answered, as callers do.
macro_rules! repeat {
    ($call:expr) => {{
        let begun = std::time::Instant::now();
        loop {
            match $call.await {
                Ok(answer) => break answer,
                Err(error) => $crate::support::pause(begun, error).await,
            }
        }
    }};
}
pub(crate) use repeat;

/// Waits a moment before a call is made again.
///
/// # Panics
/// It fails for good, or for too long.
pub async fn pause(begun: Instant, error: omniq_store::Error) {
    let passing = error.kind().is_passing() && begun.elapsed() < PATIENCE;
    assert!(passing, "{error}: {:?}", std::error::Error::source(&error));
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// A producer and workers that go on while somebody breaks things.
pub struct Run {
    store: Arc<RedisTasks>,
    stop: Arc<AtomicBool>,
    /// Nothing more is enqueued.
    over: Arc<AtomicBool>,
    producer: tokio::task::JoinHandle<Vec<TaskId>>,
    workers: Vec<tokio::task::JoinHandle<u64>>,
}

impl Run {
    /// Begins; each worker has a store of its own, as processes have.
    pub async fn begin(url: &str, name: &str, workers: usize) -> Self {
        let store = Arc::new(open(url, name).await);
        let [stop, over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let producer = tokio::spawn(produce(Arc::clone(&store), Arc::clone(&stop)));
        let mut running = Vec::new();
        for _ in 0..workers {
            let own = open(url, name).await;
            running.push(tokio::spawn(work(own, Arc::clone(&over))));
        }
        Self { store, stop, over, producer, workers: running }
    }

    /// Ends it: the producer stops, everything is drained. Every acknowledged task must have succeeded, by one end.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Release);
        let accepted = self.producer.await.expect("the producer does not fail");
        self.over.store(true, Ordering::Release);
        let mut applied = 0;
        for worker in self.workers {
            applied += worker.await.expect("a worker does not fail");
        }
        let counts = repeat!(self.store.count(&Filter::default()));
        let known: u64 = counts.values().sum();
        println!("{} accepted, {applied} applied, {counts:?}", accepted.len());
        assert!(accepted.len() > 100, "there was something to do: {}", accepted.len());
        assert_eq!(counts.get(&State::Succeeded), Some(&known), "{counts:?}");
        for ids in accepted.chunks(100) {
            for (info, id) in repeat!(self.store.get(ids)).into_iter().zip(ids) {
                let info = info.unwrap_or_else(|| panic!("the acknowledged task {id} is lost"));
                assert_eq!(info.head.state, State::Succeeded, "{id}");
            }
        }
        // An end whose answer was lost is applied before: there is one for each task, never two.
        assert!(applied >= accepted.len() as u64, "{applied} ends of {}", accepted.len());
        assert!(applied <= known, "{applied} ends of {known} tasks");
    }
}

async fn produce(store: Arc<RedisTasks>, stop: Arc<AtomicBool>) -> Vec<TaskId> {
    let mut accepted = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let tasks: Vec<Task> = (0..20).map(|_| task(100)).collect();
        let answers = repeat!(store.enqueue(tasks.clone()));
        for (task, answer) in tasks.iter().zip(answers) {
            let there = matches!(&answer, Enqueued::Created | Enqueued::Duplicate { .. });
            assert!(there, "{answer:?}");
            accepted.push(task.id);
        }
    }
    accepted
}

/// Works until all is done; counts ends that were applied, the repeated ones once.
async fn work(store: RedisTasks, over: Arc<AtomicBool>) -> u64 {
    let mut applied = 0;
    let mut session = session(&store).await;
    loop {
        let beat = repeat!(store.heartbeat(&session, Held::default()));
        match beat {
            Beat::Dead => session = self::session(&store).await,
            Beat::Alive { matches: false, .. } => {
                repeat!(store.reconcile(&session, &[]));
            }
            Beat::Alive { .. } => {}
        }
        let leases = match store.claim(&session, &[want(50)]).await {
            Ok(leases) => leases,
            Err(error)
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotApplied) =>
            {
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        if leases.is_empty() {
            repeat!(store.reclaim(100));
            if over.load(Ordering::Acquire) && repeat!(store.is_idle()) {
                return applied;
            }
            continue;
        }
        let ends: Vec<End> = leases.iter().map(|lease| success(lease.id, lease.token)).collect();
        let answers = repeat!(store.finish(&session, ends.clone()));
        for answer in answers {
            match answer {
                Finished::Applied(State::Succeeded) | Finished::AppliedBefore(State::Succeeded) => {
                    applied += 1
                }
                Finished::Stale => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
