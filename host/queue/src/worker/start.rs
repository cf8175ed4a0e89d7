//! Starts a worker: its session, its pools, its threads.

use std::future::Future;
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use omniq_model::{Pool, SessionId};
use omniq_sandbox::Sandbox;
use omniq_store::{Session, TaskStore, WorkerInfo};
use tokio::runtime::Builder;
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

/// Threads a pool may have, as the setting `workers.threads`; more than a machine has to give end the process.
const THREADS: RangeInclusive<usize> = 1..=4096;

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
    /// A worker has no such number of threads.
    #[error("a worker's pool has 1 to 4096 threads, got {0}")]
    Threads(usize),
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
    /// [`StartError`]: there is no such pool or number of threads, the store does not answer, or the machine has no thread to
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
        if !THREADS.contains(&options.threads) {
            return Err(StartError::Threads(options.threads));
        }
        let session = again(|| open_session(&*stores.tasks, &options)).await?;
        let seed = options.seed.unwrap_or_else(random);
        let shared = Arc::new(Shared::new(stores, options, ends, sink, session, seed));
        open_pools(&shared)?;
        let beats = Arc::clone(&shared);
        let heart = thread("omniq-heartbeat", Arc::clone(&shared), heartbeat::run(beats))?;
        let work = work(Arc::clone(&shared), sandbox);
        let control = thread("omniq-worker", Arc::clone(&shared), work)?;
        Ok(WorkerHandle { shared, threads: Mutex::new(vec![control, heart]) })
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

/// Runs `work` on a thread with a runtime of its own. Should it panic, the worker ends: it must not go on with a part
/// of itself missing, and what it holds is taken over by others.
fn thread(
    name: &'static str,
    shared: Arc<Shared>,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let host = |source| StartError::Host { what: "a thread of the worker", source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(host)?;
    let body = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        // A module that is still being compiled is not waited for.
        runtime.shutdown_background();
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
