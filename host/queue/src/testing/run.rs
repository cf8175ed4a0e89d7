//! Time that a test moves, and the runner that runs what is ready within the call.

use std::time::Duration;

use omniq_model::{Pool, State};
use omniq_sandbox::{Allocation, Sandbox};
use omniq_store::{Due, Filter, Interest};

use super::TestQueue;
use crate::error::{Error, Result};
use crate::worker::{WorkerHandle, WorkerOptions};

/// Tasks that one call of the store moves.
const BATCH: usize = 1000;
/// How long the store may be silent before it is asked without a reason.
const PATIENCE: Duration = Duration::from_millis(50);

impl TestQueue {
    /// Moves time on, with all that it does: tasks become due or expire, results are forgotten, tasks of workers that were
    /// silent for their lease are free again. Nothing is run.
    ///
    /// # Errors
    /// The queue is closed.
    pub async fn advance(&self, span: Duration) -> Result<()> {
        self.clock.advance(span);
        self.pass().await?;
        Ok(())
    }

    /// Runs what is ready now, and what becomes ready by that without any time passing, one after the other in this call.
    /// Returns how many attempts ran. What failed and is to be tried again is not ready before time has passed.
    ///
    /// # Errors
    /// The sandbox cannot be opened on this machine, or the queue is closed.
    pub async fn run_ready(&self) -> Result<u64> {
        self.pass().await?;
        if self.is_done().await? {
            return Ok(0);
        }
        let worker = self.worker().await?;
        let ran = self.until_done().await;
        let stats = worker.stop(Duration::ZERO).await;
        ran?;
        Ok(stats.succeeded + stats.failed + stats.cancelled + stats.retried)
    }

    /// Lets that much time pass and runs whatever becomes ready in it, each at its instant: delayed tasks, retries, and
    /// what those enqueue. Returns how many attempts ran.
    ///
    /// # Errors
    /// As [`Self::run_ready`].
    pub async fn run_for(&self, span: Duration) -> Result<u64> {
        let end = self.now() + span;
        let mut ran = 0;
        loop {
            ran += self.run_ready().await?;
            let left = end.since(self.now());
            let next = self.pass().await?.next.unwrap_or(left).min(left);
            if next.is_zero() && left.is_zero() {
                return Ok(ran);
            }
            // Something is due at once only where it became so in between.
            self.advance(next).await?;
        }
    }

    /// What time does.
    async fn pass(&self) -> Result<Due> {
        self.queue.check_open()?;
        let tasks = &self.queue.stores().tasks;
        let due = loop {
            let due = tasks.promote(BATCH).await?;
            if due.promoted < BATCH {
                break due;
            }
        };
        while tasks.reclaim(BATCH).await?.len() == BATCH {}
        while tasks.expire(BATCH).await?.len() == BATCH {}
        while tasks.purge(BATCH).await? > 0 {}
        Ok(due)
    }

    async fn worker(&self) -> Result<WorkerHandle> {
        let sandbox = match self.sandbox.get() {
            Some(sandbox) => sandbox.clone(),
            None => {
                let open = || Sandbox::builder().allocation(Allocation::OnDemand).open();
                let opened = tokio::task::spawn_blocking(open).await;
                let opened = opened.map_err(|_| Error::Closed)??;
                self.sandbox.get_or_init(|| opened).clone()
            }
        };
        let builder = self.queue.worker();
        let options = WorkerOptions {
            pool: Pool::Thread,
            slots: 1,
            threads: 1,
            batch: 1,
            // Its time stands still while it works.
            lease: Duration::from_secs(24 * 60 * 60),
            keeper: false,
            ..builder.settings().clone()
        };
        builder.sandbox(sandbox).options(options).start().await
    }

    /// Whether nothing is ready or runs, but in lanes that are paused.
    async fn is_done(&self) -> Result<bool> {
        let tasks = &self.queue.stores().tasks;
        let open = Filter { states: vec![State::Ready, State::Running], ..Filter::default() };
        // Both in one look: what is claimed between two would be in neither.
        let (ends, counts) = (tasks.changes(Interest::Ends), tasks.count(&open).await?);
        if counts.is_empty() {
            return Ok(true);
        }
        if counts.contains_key(&State::Running) || !tasks.ready_lanes(None, 1).await?.is_empty() {
            return Ok(false);
        }
        // Its lane is paused, unless it has been claimed since.
        Ok(tasks.count(&open).await? == counts && tasks.changes(Interest::Ends) == ends)
    }

    async fn until_done(&self) -> Result<()> {
        let tasks = &self.queue.stores().tasks;
        loop {
            let seen = tasks.changes(Interest::Ends);
            if self.is_done().await? {
                return Ok(());
            }
            tasks.changed(Interest::Ends, seen, PATIENCE).await;
        }
    }
}
