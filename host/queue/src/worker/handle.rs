//! A running worker, from outside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use omniq_model::SessionId;

use super::shared::Shared;

/// What a worker has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Tasks it claimed.
    pub claimed: u64,
    /// Tasks that ended with a result.
    pub succeeded: u64,
    /// Tasks that ended without one.
    pub failed: u64,
    /// Tasks that were called off.
    pub cancelled: u64,
    /// Attempts that another one follows.
    pub retried: u64,
    /// Tasks that went back without an attempt being counted.
    pub released: u64,
    /// Ends that came too late: the task was another's by then.
    pub stale: u64,
    /// Tasks that run now.
    pub running: u64,
    /// Tasks it holds that do not run yet.
    pub waiting: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub claimed: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub cancelled: AtomicU64,
    pub retried: AtomicU64,
    pub released: AtomicU64,
    pub stale: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            claimed: read(&self.claimed),
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            cancelled: read(&self.cancelled),
            retried: read(&self.retried),
            released: read(&self.released),
            stale: read(&self.stale),
            ..Stats::default()
        }
    }
}

/// A running worker. Dropping it stops the worker as [`Self::abort`] does, without waiting for it.
#[derive(Debug)]
pub struct WorkerHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl WorkerHandle {
    /// Claims nothing more, lets what runs go on for `grace`, then stops it and puts it back with its attempt
    /// refunded, and ends the session. Returns when all that is done.
    ///
    /// A store that does not answer does not hold it up: it returns within the grace and [`Self::BEYOND_GRACE`]. What is
    /// not committed by then is run again by others, once the lease is over.
    ///
    /// May be called again while it is under way: the shorter grace counts. Dropping the future does not call it off.
    pub async fn stop(&self, grace: Duration) -> Stats {
        self.shared.ask_to_stop(Instant::now().checked_add(grace));
        self.wait().await;
        self.stats()
    }

    /// How long [`Self::stop`] may take beyond its grace, whatever the store does: for the guests to stop, for what ended
    /// to be committed, and for the session to be closed.
    pub const BEYOND_GRACE: Duration = Duration::from_secs(10);

    /// Stops as [`Self::stop`] with no grace, and does not wait for it.
    pub fn abort(&self) {
        self.shared.ask_to_stop(Some(Instant::now()));
    }

    /// Waits until the worker has ended, because it was stopped or because it failed.
    pub async fn wait(&self) {
        self.shared.ended().await;
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // They have ended, or do so now: they wait for no guest.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            let _ = joined.await;
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the worker failed by itself, if it did: a mistake of the host's, never a task's doing.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    /// What it has done, and what it is doing.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Its session; a new one after it was cut off from the store for too long.
    pub fn session(&self) -> SessionId {
        self.shared.session().id
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.abort();
    }
}
