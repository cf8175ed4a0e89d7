//! Claims tasks, for as long as the worker works. While the store makes the next claim, the pools are given the last one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::{Kind, TaskError};
use omniq_sandbox::Sandbox;
use omniq_store::{Interest, Lease, Session, chain, failpoint};

use super::attempt::{Attempt, Why};
use super::dispatch::Dispatcher;
use super::impatience::LONGEST;
use super::lanes::Lanes;
use super::modules::Modules;
use super::outcome::Done;
use super::shared::{Current, Room, Shared};
use super::start::{nonce, open_session};

/// How long a worker that has nothing to do waits for news before it looks by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// Claims in a row that may give nothing: others may have been faster in as many lanes as are known.
const MISSES: u32 = 64;
/// The time between two claims while as many wait there as could run.
const CROWDED: Duration = Duration::from_millis(100);
/// The least and the most time between two tries when the store does not answer.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));
/// How long the store may take to answer once the worker is to stop.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// The time between two looks through many lanes of others.
const LOOKING: Duration = Duration::from_millis(10);

/// Claims until the worker stops. What has not begun by then is on its way back.
pub(super) async fn run(shared: Arc<Shared>, sandbox: Sandbox) {
    let modules =
        Modules::new(sandbox, Arc::clone(&shared.stores.modules), Arc::clone(&shared.wake));
    let lanes = Lanes::new(shared.options.queues.clone());
    let mut claimer = Claimer {
        dispatcher: Dispatcher::new(Arc::clone(&shared), modules),
        shared,
        lanes,
        fresh: Vec::new(),
        backlog: VecDeque::new(),
        served: Instant::now(),
        misses: 0,
        crowded: None,
    };
    let mut pause = BACKOFF.0;
    let shared = Arc::clone(&claimer.shared);
    while shared.is_working() {
        let turn = tokio::select! {
            turn = claimer.turn() => turn,
            // What is claimed for us without our knowing goes back when the store answers again, or with the session.
            () = hopeless(&shared) => {
                shared.is_suspect.store(true, Ordering::Release);
                break;
            }
        };
        match turn {
            Ok(()) => pause = BACKOFF.0,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not claim tasks");
                claimer.rest(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        }
    }
    claimer.give_back();
}

/// Until the worker is to stop and the store has had its time to answer.
async fn hopeless(shared: &Shared) {
    until_asked(shared).await;
    tokio::time::sleep(LAST_ANSWER).await;
}

/// Until the worker is to stop.
async fn until_asked(shared: &Shared) {
    let mut phase = shared.phase();
    // The sender lives in what is borrowed here.
    let _ = phase.wait_for(|phase| *phase != super::shared::Phase::Working).await;
}

struct Claimer {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    lanes: Lanes,
    /// The last claim, on its way to the pools.
    fresh: Vec<Attempt>,
    /// Attempts about whose module something is known by now. They were claimed without a look at how many can run, so
    /// they take their turn before anything else is claimed.
    backlog: VecDeque<Attempt>,
    /// When some of the backlog had its turn at last, or the backlog began.
    served: Instant,
    /// Claims in a row that gave nothing, although tasks were said to be ready.
    misses: u32,
    /// Since when it has claimed nothing because as many wait as could run.
    crowded: Option<Instant>,
}

impl Claimer {
    /// One turn: what came up meanwhile, then a claim or a wait.
    async fn turn(&mut self) -> omniq_store::Result<()> {
        let shared = Arc::clone(&self.shared);
        let arrived = self.dispatcher.arrived();
        if self.backlog.is_empty() && !arrived.is_empty() {
            self.served = Instant::now();
        }
        self.backlog.extend(arrived);
        let Current { session, is_dead } = shared.current();
        let room = shared.room(&self.fresh);
        let turn = if is_dead {
            Turn::Renew
        } else if shared.is_suspect.load(Ordering::Acquire) {
            Turn::Reconcile
        } else if !self.backlog.is_empty() {
            Turn::Serve
        } else if room.tasks == 0 || room.bytes == 0 {
            Turn::Wait
        } else if self.is_crowded(room.tasks) {
            Turn::WaitCrowded
        } else {
            Turn::Claim
        };
        if turn != Turn::Claim && !self.fresh.is_empty() {
            self.dispatcher.dispatch(std::mem::take(&mut self.fresh));
            return Ok(());
        }
        match turn {
            Turn::Renew => self.renew().await?,
            Turn::Reconcile => reconcile(&shared, &session).await?,
            Turn::Serve => self.serve(room.tasks).await,
            Turn::Wait => shared.wake.notified().await,
            Turn::WaitCrowded => {
                let _ = tokio::time::timeout(CROWDED, shared.wake.notified()).await;
            }
            Turn::Claim => self.claim(&shared, &session, room).await?,
        }
        Ok(())
    }

    /// Claims for that room and meanwhile gives the pools the last claim; waits where there is nothing.
    async fn claim(
        &mut self,
        shared: &Shared,
        session: &Session,
        room: Room,
    ) -> omniq_store::Result<()> {
        let tasks = shared.tasks();
        let seen = tasks.changes(Interest::Work);
        let Self { dispatcher, lanes, fresh, misses, .. } = self;
        // The store is asked first, so that it has something to do meanwhile.
        let (claimed, ()) = tokio::join!(
            biased;
            claim(shared, session, lanes, room),
            async { dispatcher.dispatch(std::mem::take(fresh)) },
        );
        match claimed? {
            Some(attempts) => {
                *misses = if attempts.is_empty() { *misses + 1 } else { 0 };
                *fresh = attempts;
                if *misses > MISSES {
                    // The session has died, or the store is damaged: asking on and on would help nobody.
                    let pause = Duration::from_millis(1 << (*misses - MISSES).min(7));
                    self.rest(pause).await;
                }
                // A claim of a store in memory never waits: others of this thread have their turn here.
                tokio::task::yield_now().await;
            }
            None if lanes.has_more() => {
                let _ = tokio::time::timeout(LOOKING, shared.wake.notified()).await;
            }
            None => {
                *misses = 0;
                tokio::select! {
                    () = shared.wake.notified() => {}
                    _ = tasks.changed(Interest::Work, seen, PATIENCE) => {}
                }
            }
        }
        Ok(())
    }

    /// Gives what is in the backlog its turn, as far as there is room; what waits too long for that goes back.
    async fn serve(&mut self, room: usize) {
        if room > 0 {
            self.served = Instant::now();
            let next = self.backlog.drain(..room.min(self.backlog.len())).collect();
            self.dispatcher.dispatch(next);
            return;
        }
        let left = LONGEST.saturating_sub(self.served.elapsed());
        if left.is_zero() {
            tracing::info!(
                tasks = self.backlog.len(),
                "tasks whose module came too late for a slot are given back"
            );
            let back = self.backlog.drain(..);
            let back = back.map(|attempt| Done::released(attempt, Duration::ZERO, None)).collect();
            self.shared.outbox.push_all(back);
        } else {
            let _ = tokio::time::timeout(left, self.shared.wake.notified()).await;
        }
    }

    /// Whether as many wait for their modules as could run: only now and then one claims past them, for what stands
    /// behind them and could run now.
    fn is_crowded(&mut self, room: usize) -> bool {
        let is_full = self.dispatcher.waiting() >= room;
        let is_over = self.crowded.is_some_and(|since| since.elapsed() >= CROWDED);
        if !is_full || is_over {
            self.crowded = None;
            return false;
        }
        self.crowded.get_or_insert_with(Instant::now);
        true
    }

    /// Waits before the next try; woken early only by the end.
    async fn rest(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, until_asked(&self.shared)).await;
    }

    async fn renew(&mut self) -> omniq_store::Result<()> {
        let session = open_session(&**self.shared.tasks(), &self.shared.options).await?;
        tracing::info!(session = %session.id, "a new session takes the place of the one that died");
        self.shared.renew(session);
        self.shared.is_suspect.store(false, Ordering::Release);
        Ok(())
    }

    /// Sends everything back that has not begun.
    fn give_back(self) {
        let pools = self.shared.pools().iter();
        let drained = pools.flat_map(|pool| pool.drain()).map(|job| job.attempt);
        let waiting = self.dispatcher.into_waiting();
        let attempts = self.fresh.into_iter().chain(waiting).chain(self.backlog).chain(drained);
        let done = attempts.map(|attempt| Done::released(attempt, Duration::ZERO, None)).collect();
        self.shared.outbox.push_all(done);
    }
}

/// Puts back what the store holds for us and we do not. No claim is under way that we know of: they are made here.
pub(super) async fn reconcile(shared: &Shared, session: &Session) -> omniq_store::Result<()> {
    let held = shared.claims(session.id);
    let moved = shared.tasks().reconcile(session, &held).await?;
    shared.is_suspect.store(false, Ordering::Release);
    if !moved.is_empty() {
        tracing::warn!(tasks = moved.len(), "claims whose answer was lost are put back");
    }
    Ok(())
}

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Renew,
    Reconcile,
    Serve,
    Wait,
    WaitCrowded,
    Claim,
}

/// Claims for that room; `None`: no lane is known to have tasks.
async fn claim(
    shared: &Shared,
    session: &Session,
    lanes: &mut Lanes,
    room: Room,
) -> omniq_store::Result<Option<Vec<Attempt>>> {
    let wants = lanes.wants(&**shared.tasks(), room, nonce).await?;
    if wants.is_empty() {
        return Ok(None);
    }
    let under_way = shared.begin();
    let claimed = shared.tasks().claim(session, &wants).await;
    let attempts = claimed.map(|leases| {
        failpoint::hit("worker.claim.after_answer");
        lanes.learn(&wants, &leases);
        hold(shared, session, leases)
    });
    if attempts.is_err() {
        // It may have been committed all the same: then the store holds for us what we do not know of.
        shared.is_suspect.store(true, Ordering::Release);
    }
    drop(under_way);
    attempts.map(Some)
}

/// Notes what was claimed.
fn hold(shared: &Shared, session: &Session, leases: Vec<Lease>) -> Vec<Attempt> {
    let stops = shared.hold(session.id, &leases);
    let current = shared.current();
    if current.is_dead || current.session.id != session.id {
        // It died while the store answered: they may be another's, and nobody looks after its tasks any more.
        stops.iter().for_each(|stop| stop.stop(Why::LeaseLost));
    }
    shared.counters.claimed.fetch_add(leases.len() as u64, Ordering::Relaxed);
    let mut unreadable = Vec::new();
    let mut attempts = Vec::with_capacity(leases.len());
    for (lease, stop) in leases.into_iter().zip(stops) {
        let (task, error) = match lease.task {
            Ok(task) => (Some(task), None),
            Err(error) => (None, Some(error)),
        };
        let attempt = Attempt {
            id: lease.id,
            token: lease.token,
            session: *session,
            number: lease.attempt,
            created: lease.created,
            task,
            stop,
        };
        match error {
            None => attempts.push(attempt),
            Some(error) => {
                let error = TaskError::new(Kind::Undecodable, error.to_string());
                unreadable.push(Done::failed(attempt, error));
            }
        }
    }
    shared.outbox.push_all(unreadable);
    attempts
}
