//! Gives back what waits too long for a slot, so that others can run it.
//!
//! Tasks are fetched in advance while those before them were quick. When the next ones are slow all the same, the rest
//! would wait behind them while other workers have nothing to do. It goes back uncounted, and for a while the pool takes
//! no more than it can run at once, so that nothing goes to and fro.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::Done;
use super::shared::Shared;

/// How long a claimed task may wait for a slot.
pub(super) const LONGEST: Duration = Duration::from_secs(2);
/// How often that is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Looks until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for pool in shared.pools() {
            if pool.waits_since().is_none_or(|since| since.elapsed() < LONGEST) {
                continue;
            }
            // All of them: those behind the first would wait longer still.
            let jobs = pool.drain();
            pool.load().sober();
            tracing::info!(
                pool = %pool.kind(),
                tasks = jobs.len(),
                "tasks waited too long for a slot and are given back"
            );
            let back = |job: Box<super::Job>| Done::released(job.attempt, Duration::ZERO, None);
            shared.outbox.push_all(jobs.into_iter().map(back).collect());
        }
    }
}
