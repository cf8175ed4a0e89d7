//! Keeps the session alive, on a thread of its own that no guest and no slow claim can occupy.
//!
//! A worker that cannot reach the store for the time of a lease, by its own clock, stops its guests: others may run
//! their tasks by then. What they leave behind is committed if their tokens are still current, and dropped if not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::SessionId;
use omniq_store::{Beat, Session, chain};
use tokio::sync::watch;

use super::attempt::Why;
use super::shared::{Current, Phase, Shared};

/// Heartbeats in a row with another fingerprint than the store's before the worker reconciles: with nothing under way
/// that could explain it, and in any case.
const QUIET_MISMATCHES: u32 = 2;
const MISMATCHES: u32 = 6;

/// Beats until the worker has ended.
pub(super) async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let mut phase = shared.phase();
    let lease = shared.options.lease;
    let mut heart = Heart::new(&shared, shared.session().id);
    let mut pause = lease / 3;
    while rest(&mut phase, pause.min(heart.until.saturating_duration_since(Instant::now()))).await {
        let Current { session, is_dead } = shared.current();
        if session.id != heart.session {
            heart = Heart::new(&shared, session.id);
        }
        heart.fence();
        pause = if is_dead {
            // The claimer opens a new session, as soon as the store lets it.
            lease / 30
        } else {
            let mut phase = shared.phase();
            tokio::select! {
                pause = heart.beat(&session) => pause,
                // A store that does not answer does not keep the worker from its end.
                _ = phase.wait_for(|phase| *phase == Phase::Ended) => return Ok(()),
            }
        };
    }
    Ok(())
}

/// Waits; `false` when the worker has ended.
async fn rest(phase: &mut watch::Receiver<Phase>, pause: Duration) -> bool {
    // At least a moment, whatever the reckoning says: this is a loop over a store that may fail at once.
    let pause = pause.max(Duration::from_millis(10));
    let ended = phase.wait_for(|phase| *phase == Phase::Ended);
    tokio::time::timeout(pause, ended).await.is_err()
}

struct Heart<'a> {
    shared: &'a Shared,
    session: SessionId,
    /// When the lease is over unless a heartbeat succeeds, by this process's clock.
    until: Instant,
    quiet_mismatches: u32,
    mismatches: u32,
    failures: u32,
}

impl<'a> Heart<'a> {
    fn new(shared: &'a Shared, session: SessionId) -> Self {
        Self {
            shared,
            session,
            until: Instant::now() + shared.options.lease,
            quiet_mismatches: 0,
            mismatches: 0,
            failures: 0,
        }
    }

    /// Stops the guests if the lease is over. What is claimed after that has the time of a lease again.
    fn fence(&mut self) {
        if Instant::now() >= self.until {
            self.until = Instant::now() + self.shared.options.lease;
            tracing::warn!(
                session = %self.session,
                "no heartbeat came through for the time of a lease: running tasks are stopped"
            );
            self.shared.stop_all(Some(self.session), Why::LeaseLost);
        }
    }

    /// One heartbeat; returns when the next is due.
    async fn beat(&mut self, session: &Session) -> Duration {
        let lease = self.shared.options.lease;
        let sent = Instant::now();
        let quiet = self.shared.quiet();
        let print = self.shared.print(session.id);
        // Not beyond the lease: whoever waits for an answer stops no guest.
        let patience = (lease / 3).min(self.until.saturating_duration_since(sent));
        let answer = tokio::time::timeout(patience, self.shared.tasks().heartbeat(session, print));
        match answer.await {
            Ok(Ok(Beat::Alive { matches, cancel })) => {
                self.until = sent + lease;
                self.failures = 0;
                self.shared.stop(&cancel, Why::CalledOff);
                let was_quiet = quiet.is_some() && self.shared.quiet() == quiet;
                self.compare(matches, was_quiet);
                lease / 3
            }
            Ok(Ok(Beat::Dead)) => {
                tracing::warn!(session = %self.session, "the session has died: its tasks may be another's");
                // In this order: what is claimed under it after that finds it dead.
                self.shared.died(self.session);
                self.shared.stop_all(Some(self.session), Why::LeaseLost);
                lease / 30
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "a heartbeat failed");
                self.failures += 1;
                self.retry_after()
            }
            Err(_) => {
                tracing::warn!(waited = ?patience, "the store did not answer a heartbeat");
                self.failures += 1;
                self.retry_after()
            }
        }
    }

    /// Soon at first, so that one lost answer costs little.
    fn retry_after(&self) -> Duration {
        let lease = self.shared.options.lease;
        (lease / 60).saturating_mul(1 << self.failures.min(4)).min(lease / 6)
    }

    /// What the store holds for us against what we hold.
    fn compare(&mut self, matches: bool, was_quiet: bool) {
        if matches {
            (self.quiet_mismatches, self.mismatches) = (0, 0);
            return;
        }
        self.mismatches += 1;
        self.quiet_mismatches += u32::from(was_quiet);
        // A busy worker has nearly always a claim under way, and then a difference means nothing. But one that never
        // goes away deserves a look all the same.
        if self.quiet_mismatches >= QUIET_MISMATCHES || self.mismatches >= MISMATCHES {
            (self.quiet_mismatches, self.mismatches) = (0, 0);
            self.shared.is_suspect.store(true, Ordering::Release);
            self.shared.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use omniq_model::{Lane, SessionId};
    use omniq_store::{TaskStore as _, Want, WorkerInfo};

    use super::super::WorkerOptions;
    use super::super::attempt::Stop;
    use super::super::tests::kit::*;
    use super::*;

    /// What a worker with so long a lease shares; none of its threads runs.
    async fn shared(kit: &Kit, lease: Duration) -> Shared {
        let (id, worker) = (SessionId::new(1), WorkerInfo::default());
        let session = kit.tasks.open_session(id, &worker, lease).await.unwrap();
        let options = WorkerOptions { lease, ..thread() };
        Shared::new(kit.stores.clone(), options, kit.ends.clone(), kit.sink.clone(), session, 1)
    }

    /// The switch of a task that was claimed just now.
    async fn claimed(kit: &Kit, shared: &Shared, nonce: u64) -> Arc<Stop> {
        let add = kit.push(component(ADD, ADD_TYPE)).await;
        kit.enqueue(kit.task(&add, &[0x82, 5, 10])).await;
        let want = Want::new(Lane::default(), 1, nonce);
        let leases = kit.tasks.claim(&shared.session(), &[want]).await.unwrap();
        shared.hold(shared.session().id, &leases).remove(0)
    }

    #[tokio::test]
    async fn no_answer_is_waited_for_beyond_the_lease() {
        let kit = Kit::new();
        let lease = Duration::from_secs(24 * 3600);
        let shared = shared(&kit, lease).await;
        let stop = claimed(&kit, &shared, 1).await;
        let mut heart = Heart::new(&shared, shared.session().id);
        heart.until = Instant::now() + Duration::from_millis(50);
        kit.tasks.is_hung.store(true, Ordering::Release);
        let beat = tokio::time::timeout(PATIENCE, heart.beat(&shared.session())).await;
        beat.expect("it is given up");
        heart.fence();
        assert_eq!(stop.why(), Why::LeaseLost);
    }

    #[tokio::test]
    async fn what_was_claimed_after_a_lease_was_over_is_stopped_after_another() {
        let kit = Kit::new();
        let lease = Duration::from_secs(24 * 3600);
        let shared = shared(&kit, lease).await;
        let mut heart = Heart::new(&shared, shared.session().id);
        for nonce in 1..=3 {
            let stop = claimed(&kit, &shared, nonce).await;
            heart.fence();
            assert_eq!(stop.why(), Why::GoOn, "the lease is not over");
            heart.until = Instant::now();
            heart.fence();
            assert_eq!(stop.why(), Why::LeaseLost, "{nonce}");
        }
    }
}
