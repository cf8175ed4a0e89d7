//! Moves time on: due tasks become ready, those of dead workers free, old ones are forgotten.
//!
//! Any number of processes may do this at the same time; the store lets each change happen once. Every call is bounded,
//! so that nobody waits long behind it.

use std::time::Duration;

use omniq_model::{EventKind, Kind, TaskError, TaskEvent};
use omniq_store::{Interest, Moved, Result, chain};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ends::Ends;
use crate::event::{self, Repair, Sink};
use crate::stores::Stores;

/// Tasks that one call moves.
const BATCH: usize = 1000;
/// Tasks that one call forgets, and calls in a row: 25 000 a second must not heap up.
const PURGE: usize = 5000;
const PURGES: usize = 20;
/// How often dead workers and old tasks are looked for, and due tasks at least.
const SWEEP: Duration = Duration::from_secs(1);
/// The least time between two looks for due tasks, however much happens.
const PACE: Duration = Duration::from_millis(20);

/// What a keeper works on.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub stores: Stores,
    pub ends: Ends,
    pub sink: Sink,
    /// How long events are kept.
    pub event_ttl: Duration,
    /// How long workers may be silent.
    pub lease: Duration,
}

/// When the store was out of reach, and for how long after that no worker is taken for dead.
///
/// None could report while it was. Each has something to say first: what ended meanwhile, and is committed by its token
/// as long as nobody took the task away.
#[derive(Debug)]
struct Outage {
    lease: Duration,
    since: Option<Instant>,
    mercy: Option<Instant>,
}

impl Outage {
    /// Longer than the longest pause between two tries to commit.
    const MERCY: Duration = Duration::from_secs(10);

    fn new(lease: Duration) -> Self {
        Self { lease, since: None, mercy: None }
    }

    /// The store did not answer what it was asked then.
    fn began(&mut self, asked: Instant) {
        self.since.get_or_insert(asked);
    }

    /// The store answered what it was asked then. An answer that took as long as nearly a lease is an outage too: whoever
    /// keeps all others from writing to a file for so long lets nobody report either.
    fn ended(&mut self, asked: Instant, now: Instant) {
        // A worker reports three times in a lease, so that a shorter one lets nobody die.
        let was_away = self.since.take().is_some_and(|since| now - since >= self.lease / 2);
        if was_away || now - asked >= self.lease * 2 / 3 {
            self.mercy = Some(now + self.lease.max(Self::MERCY));
            tracing::info!(
                "the store answers again; no worker is taken for dead before all could report"
            );
        }
    }

    /// Whether silent workers are dead.
    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none() && self.mercy.is_none_or(|until| until <= now)
    }
}

/// Keeps time until it is dropped.
pub(crate) async fn run(keeper: Keeper) {
    tokio::join!(keeper.promote(), keeper.sweep(), keeper.forget_results(), keeper.tidy());
}

impl Keeper {
    /// Makes tasks ready whose time has come.
    async fn promote(&self) {
        let tasks = &self.stores.tasks;
        loop {
            let seen = tasks.changes(Interest::Work);
            let wait = match tasks.promote(BATCH).await {
                Ok(due) => due.next.unwrap_or(SWEEP).min(SWEEP),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "could not look for due tasks");
                    sleep(SWEEP).await;
                    continue;
                }
            };
            // A store in memory never waits: others of this thread have their turn here.
            yield_now().await;
            // Something new may be due before what is known to be next.
            let news = async {
                tokio::join!(sleep(PACE), tasks.changed(Interest::Work, seen, wait));
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = news => {}
            }
        }
    }

    /// Takes tasks from dead workers, ends those that did not start in time, forgets old ones.
    async fn sweep(&self) {
        let mut outage = Outage::new(self.lease);
        loop {
            let asked = Instant::now();
            let swept = match self.expire().await {
                Ok(()) => {
                    outage.ended(asked, Instant::now());
                    self.sweep_once(outage.is_over(Instant::now())).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = swept {
                outage.began(asked);
                tracing::warn!(error = %chain(&error), "could not look after tasks whose time is over");
            }
            sleep_until(asked + SWEEP).await;
        }
    }

    async fn reclaim(&self) -> Result<()> {
        loop {
            let moved = self.stores.tasks.reclaim(BATCH).await?;
            self.tell(&moved, EventKind::LeaseLost, Kind::Crashed, "its worker died under it");
            if moved.len() < BATCH {
                return Ok(());
            }
            yield_now().await;
        }
    }

    async fn expire(&self) -> Result<()> {
        loop {
            let moved = self.stores.tasks.expire(BATCH).await?;
            let message = "it did not start within its time to live";
            self.tell(&moved, EventKind::Expired, Kind::Expired, message);
            if moved.len() < BATCH {
                return Ok(());
            }
            yield_now().await;
        }
    }

    async fn sweep_once(&self, reclaims: bool) -> Result<()> {
        let tasks = &self.stores.tasks;
        if reclaims {
            self.reclaim().await?;
        }
        for _ in 0..PURGES {
            if tasks.purge(PURGE).await? == 0 {
                break;
            }
            yield_now().await;
        }
        Ok(())
    }

    /// Forgets old results that are kept apart from their tasks. What becomes of their store holds up nothing else, and says
    /// nothing about workers.
    async fn forget_results(&self) {
        let Some(results) = &self.stores.results else { return };
        loop {
            let mut pause = SWEEP;
            for _ in 0..PURGES {
                match results.purge(PURGE).await {
                    Ok(0) => break,
                    Ok(_) => yield_now().await,
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "could not forget old results");
                        pause = Repair::EVERY / 4;
                        break;
                    }
                }
            }
            sleep(pause).await;
        }
    }

    /// Tells who waits, and the log.
    fn tell(&self, moved: &[Moved], kind: EventKind, why: Kind, message: &str) {
        if moved.is_empty() {
            return;
        }
        if kind == EventKind::LeaseLost {
            tracing::info!(tasks = moved.len(), "tasks of dead workers are free again");
        }
        self.ends.publish(moved.iter().map(|moved| (moved.id, moved.to)));
        if !self.sink.is_on() {
            return;
        }
        let now = self.sink.now();
        let event_of = |moved: &Moved, kind| TaskEvent {
            lane: moved.lane.clone(),
            attempt: moved.attempt,
            error: Some(Box::new(TaskError::new(why, message))),
            ..event::event(moved.id, moved.fence, kind, now)
        };
        self.sink.emit_all(moved.iter().flat_map(|moved| {
            // A task whose crashes are used up has lost its lease, and failed.
            let end = EventKind::of_end(moved.to).filter(|end| *end != kind);
            [Some(event_of(moved, kind)), end.map(|end| event_of(moved, end))].into_iter().flatten()
        }));
    }

    /// Once a minute: puts missing ends into the log, and forgets old events.
    async fn tidy(&self) {
        let Some(events) = &self.stores.events else { return };
        let repair = Repair::new(self.stores.tasks.clone(), events.clone());
        let mut repaired = repair.run().await;
        loop {
            let next = Instant::now() + Repair::EVERY;
            if let Err(error) = repaired {
                tracing::warn!(error = %chain(&error), "could not complete the event log");
            }
            let before = self.sink.now() - self.event_ttl;
            for _ in 0..PURGES {
                match events.purge(before, PURGE).await {
                    Ok(PURGE..) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "could not forget old events");
                        break;
                    }
                }
            }
            sleep_until(next).await;
            // One of many processes is enough.
            repaired = repair.run_if_due().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_outage_nobody_is_taken_for_dead_before_all_could_report() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::new(15 * second);
        assert!(outage.is_over(start));
        outage.began(start);
        outage.began(start + 5 * second);
        assert!(!outage.is_over(start + 5 * second));
        outage.ended(start + 6 * second, start + 6 * second);
        assert!(outage.is_over(start + 6 * second), "too short for anybody to die");
        outage.began(start);
        outage.ended(start + 20 * second, start + 20 * second);
        assert!(!outage.is_over(start + 34 * second));
        assert!(outage.is_over(start + 35 * second));
    }

    #[test]
    fn an_answer_that_took_as_long_as_a_lease_was_an_outage_as_well() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::new(15 * second);
        outage.ended(start, start + 9 * second);
        assert!(
            outage.is_over(start + 9 * second),
            "a worker reported in the meantime, or can now"
        );
        outage.ended(start, start + 10 * second);
        assert!(!outage.is_over(start + 24 * second));
        assert!(outage.is_over(start + 25 * second));
    }
}
