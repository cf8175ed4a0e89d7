//! Starts a worker: its session, its pools, its threads.

use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use omniq_model::{Pool, SessionId};
use omniq_sandbox::Sandbox;
use omniq_store::{Session, TaskStore, WorkerInfo};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::handle::WorkerHandle;
use super::options::WorkerOptions;
use super::shared::Shared;
use super::{beginning, cancel, claim, finish, heartbeat, impatience, shutdown};
use crate::again::again;
use crate::ends::Ends;
use crate::event::Sink;
use crate::keeper::{self, Keeper};
use crate::pool::{self, Report};
use crate::stores::Stores;

/// What the options may be. Those of the settings, but for the lease: what a program says for itself need not be sensible,
/// only such that the worker works.
const SLOTS: RangeInclusive<usize> = 1..=65_536;
const THREADS: RangeInclusive<usize> = 1..=4096;
const BATCH: RangeInclusive<usize> = 1..=1000;
const LEASE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30 * 24 * 60 * 60);

/// How long the store may take to close the session of a worker that could not be started.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The task store did not open a session.
    #[error(transparent)]
    Store(#[from] omniq_store::Error),
    /// This version has no such pool.
    #[error("there is no pool `{0}` in this version; it has `async` and `thread`")]
    Pool(Pool),
    /// No worker can be like that.
    #[error("{what}, got {given}")]
    Bounds {
        /// What workers are like.
        what: &'static str,
        /// What was asked for.
        given: String,
    },
    /// The machine refuses what a worker needs.
    #[error("could not start {what}")]
    Host {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs tasks; see [`Worker::start`].
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Starts a worker on these stores. It runs until it is stopped, on threads of its own.
    ///
    /// `ends` hears of every end the worker commits, `sink` takes its events; both are the caller's to look after.
    /// Dropping the future before it is ready may leave a session behind that dies by itself.
    ///
    /// # Errors
    /// [`StartError`]: there is no such pool, an option is out of its bounds, the store does not answer, or the machine has no thread to
    /// give.
    pub async fn start(
        stores: Stores,
        sandbox: Sandbox,
        options: WorkerOptions,
        ends: Ends,
        sink: Sink,
    ) -> Result<WorkerHandle, StartError> {
        if !matches!(options.pool, Pool::Async | Pool::Thread) {
            return Err(StartError::Pool(options.pool));
        }
        check(&options)?;
        let session = again(|| open_session(&*stores.tasks, &options)).await?;
        let seed = options.seed.unwrap_or_else(random);
        let shared = Arc::new(Shared::new(stores, options, ends, sink, session, seed));
        match begin(&shared, sandbox) {
            Ok(threads) => Ok(WorkerHandle { shared, threads: Mutex::new(threads) }),
            Err(error) => {
                take_back(&shared).await;
                Err(error)
            }
        }
    }
}

fn check(options: &WorkerOptions) -> Result<(), StartError> {
    let WorkerOptions { slots, threads, batch, claim_bytes, lease, .. } = options;
    for (is_good, what, given) in [
        (SLOTS.contains(slots), "a worker has 1 to 65536 slots", slots),
        (THREADS.contains(threads), "a worker's pool has 1 to 4096 threads", threads),
        (BATCH.contains(batch), "a worker claims 1 to 1000 tasks in one go", batch),
        (*claim_bytes > 0, "a worker holds at least 1 byte of arguments", claim_bytes),
    ] {
        if !is_good {
            return Err(StartError::Bounds { what, given: given.to_string() });
        }
    }
    if !LEASE.contains(lease) {
        let what = "the lease of a worker is 100 ms to 30 days";
        return Err(StartError::Bounds { what, given: format!("{lease:?}") });
    }
    Ok(())
}

fn begin(shared: &Arc<Shared>, sandbox: Sandbox) -> Result<Vec<JoinHandle<()>>, StartError> {
    open_pools(shared)?;
    let beats = heartbeat::run(Arc::clone(shared));
    let heart = thread("omniq-heartbeat", Arc::clone(shared), beats)?;
    let work = work(Arc::clone(shared), sandbox);
    let control = thread("omniq-worker", Arc::clone(shared), work)?;
    Ok(vec![control, heart])
}

/// Ends what has begun of a worker that cannot be started, and its session.
async fn take_back(shared: &Shared) {
    shared.end_all(None);
    for pool in shared.pools() {
        pool.stop();
    }
    let session = shared.session();
    let closed = tokio::time::timeout(FAREWELL, shared.tasks().close_session(&session)).await;
    if !matches!(closed, Ok(Ok(_))) {
        tracing::warn!("the session of a worker that could not be started ends with its lease");
    }
}

fn open_pools(shared: &Arc<Shared>) -> Result<(), StartError> {
    let options = &shared.options;
    let report: Arc<dyn Report> = Arc::clone(&shared.outbox) as _;
    let mut pools = Vec::new();
    for kind in [Pool::Async, Pool::Thread] {
        let pool = pool::open(kind, options.slots, options.threads, &report)
            .map_err(|source| StartError::Host { what: "the threads of a pool", source })?;
        pools.extend(pool);
    }
    // Set once, here.
    let _ = shared.pools.set(pools);
    Ok(())
}

/// A runtime that waits for nothing when it is dropped: neither for a module that is still being compiled, nor, where the
/// system has no thread for it, inside the runtime of whoever asked for a worker.
struct Own(Option<Runtime>);

impl Own {
    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it is taken by the drop alone").block_on(work)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on a thread with a runtime of its own. Should it panic, the worker ends: it must not go on with a part
/// of itself missing, and what it holds is taken over by others.
fn thread(
    name: &'static str,
    shared: Arc<Shared>,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let host = |source| StartError::Host { what: "a thread of the worker", source };
    let runtime = Own(Some(Builder::new_current_thread().enable_all().build().map_err(host)?));
    let body = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        drop(runtime);
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(panic) => Some(pool::panicked(panic)),
        };
        if let Some(failure) = &failure {
            tracing::error!(failure, thread = name, "the worker failed");
            shared.stop_all(None, super::attempt::Why::LeaseLost);
        }
        shared.end_all(failure);
        for pool in shared.pools() {
            pool.stop();
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(host)
}

/// Claims and commits until the worker has stopped.
async fn work(shared: Arc<Shared>, sandbox: Sandbox) -> Result<(), String> {
    let failed = |error: tokio::task::JoinError| error.to_string();
    let mut finisher = tokio::spawn(finish::run(Arc::clone(&shared)));
    let mut claimer = tokio::spawn(claim::run(Arc::clone(&shared), sandbox));
    // These end by a mistake only, and when they are dropped.
    let (mut aides, mut keeper) = (JoinSet::new(), JoinSet::new());
    aides.spawn(cancel::run(Arc::clone(&shared)));
    aides.spawn(impatience::run(Arc::clone(&shared)));
    if shared.sink.is_on() {
        aides.spawn(beginning::run(Arc::clone(&shared)));
    }
    if shared.options.keeper {
        keeper.spawn(keeper::run(keeper_of(&shared)));
    }
    tokio::select! {
        ended = &mut claimer => ended.map_err(failed)?,
        ended = &mut finisher => return ended.map_err(failed),
        Some(ended) = aides.join_next() => return ended.map_err(failed),
        Some(ended) = keeper.join_next() => return ended.map_err(failed),
    }
    drop(keeper);
    tokio::select! {
        () = shutdown::run(&shared) => {}
        ended = &mut finisher => return ended.map_err(failed),
        Some(ended) = aides.join_next() => return ended.map_err(failed),
    }
    finisher.abort();
    Ok(())
}

fn keeper_of(shared: &Shared) -> Keeper {
    Keeper {
        stores: shared.stores.clone(),
        ends: shared.ends.clone(),
        sink: shared.sink.clone(),
        event_ttl: shared.options.event_ttl,
        lease: shared.options.lease,
    }
}

/// Opens a session under a fresh random id, so that no dead one ever comes back.
pub(super) async fn open_session(
    tasks: &dyn TaskStore,
    options: &WorkerOptions,
) -> omniq_store::Result<Session> {
    let id = SessionId::new(random());
    let worker = WorkerInfo { name: options.name.clone() };
    tasks.open_session(id, &worker, options.lease).await
}

/// A random number below 2^63.
pub(super) fn nonce() -> u64 {
    random() >> 1
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    u64::from_be_bytes(bytes)
}
