//! What stands around every open store: a deadline for each call, a breaker that leaves a store alone that does not
//! answer, and a line in the log for what takes long.
//!
//! The layer repeats nothing and holds nothing back: a call goes through once, or not at all. While a store rests, what is
//! asked by a person or a producer fails at once with [`Error::Resting`], which says since when,
//! why and when to come back. What ends running work (an end, a heartbeat, a staged result) waits instead until it may be
//! the probe, at most for its deadline: so the first thing that a store hears after an outage is what happened meanwhile.
//!
//! A backend has deadlines of its own, whose messages say more; the one here is half as long again and the net below.

mod breaker;
mod events;
mod modules;
mod results;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use self::breaker::{Admission, Breaker, Change, Failure, Pass, Probe, Rest};
use crate::error::{Rough, chain};
use crate::{Error, Result};

pub use self::breaker::Condition;

/// When a store is left alone, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// How long a call may take. Those over many tasks, such as counts and bulks, may take [`LONG`] times that.
    pub timeout: Duration,
    /// Failures in a row after which it opens.
    pub in_a_row: u32,
    /// Calls within [`window`](Self::window) of which half must fail for it to open.
    pub least: u64,
    /// Over how long calls are counted for that.
    pub window: Duration,
    /// The longest pause before the first probe; it doubles with every probe that fails.
    pub first_pause: Duration,
    /// Where the doubling ends. After an outage a store is asked again at the latest after this, if anybody asks.
    pub longest_pause: Duration,
    /// Probes under way at most.
    pub probes: usize,
    /// Calls that take longer are logged, each kind once a minute.
    pub slow: Duration,
    /// Chance, uniform in `0.0..1.0`; tests bring their own.
    pub roll: fn() -> f64,
}

/// How much longer calls may take that go over many tasks.
pub const LONG: u32 = 6;

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            in_a_row: 5,
            least: 20,
            window: Duration::from_secs(10),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            probes: 1,
            slow: Duration::from_secs(1),
            roll: breaker::roll,
        }
    }
}

/// What a guard knows about its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardState {
    /// What is kept there: `tasks`, `results`, `events` or `modules`.
    pub role: &'static str,
    /// The backend's name.
    pub backend: &'static str,
    /// Whether it is asked.
    pub condition: Condition,
    /// For how long that has been so.
    pub since: Duration,
    /// When it may be asked again, while it is not.
    pub retry_after: Option<Duration>,
    /// How it failed at last, if it ever did in this process.
    pub last_error: Option<String>,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not.
    pub failed: u64,
    /// Calls that did not go through.
    pub refused: u64,
    /// How often it was left alone.
    pub opened: u64,
}

/// Stands in front of one store.
pub struct Guard {
    role: &'static str,
    backend: &'static str,
    policy: Policy,
    breaker: Breaker,
    /// When a slow call of each kind was logged last.
    logged: Mutex<HashMap<&'static str, Instant>>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("role", &self.role).field("backend", &self.backend).finish()
    }
}

/// A store with its guard in front.
#[derive(Debug)]
pub struct Guarded<S: ?Sized> {
    guard: Arc<Guard>,
    inner: Arc<S>,
}

impl<S: ?Sized> Guarded<S> {
    /// `inner` behind `guard`.
    pub fn new(guard: Arc<Guard>, inner: Arc<S>) -> Self {
        Self { guard, inner }
    }

    /// What stands in front.
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }
}

/// What a caller does while the store rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is told at once.
    Eager,
    /// It waits to be the probe.
    Patient,
}

/// One kind of call.
#[derive(Debug, Clone, Copy)]
struct Call {
    action: &'static str,
    manner: Manner,
    /// Whether it may take [`LONG`] times as long.
    is_long: bool,
}

impl Call {
    /// What it is if it finds out whether the store answers again.
    fn probe(self) -> Probe {
        if self.is_long { Probe::Long } else { Probe::Short }
    }
}

/// A call that is told at once when the store rests.
const fn eager(action: &'static str) -> Call {
    Call { action, manner: Manner::Eager, is_long: false }
}

/// A call that waits to be the probe.
const fn patient(action: &'static str) -> Call {
    Call { action, manner: Manner::Patient, is_long: false }
}

/// An eager call over many tasks or many bytes.
const fn long(action: &'static str) -> Call {
    Call { action, manner: Manner::Eager, is_long: true }
}

/// What is kept somewhere, and where that is.
type Place = (&'static str, String);

/// All guards of the process, those of the same place under the same key.
static ALL: LazyLock<Mutex<HashMap<Place, Weak<Guard>>>> = LazyLock::new(Mutex::default);

/// What all guards of this process know, by role and backend.
pub fn states() -> Vec<GuardState> {
    let guards: Vec<Arc<Guard>> = {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(Weak::upgrade).collect()
    };
    let mut states: Vec<GuardState> = guards.iter().map(|guard| guard.state()).collect();
    states.sort_by_key(|state| (state.role, state.backend));
    states
}

impl Guard {
    /// A guard of its own, which [`states`] does not know.
    pub fn new(role: &'static str, backend: &'static str, policy: Policy) -> Self {
        let breaker = Breaker::new(policy, Instant::now());
        Self { role, backend, policy, breaker, logged: Mutex::default() }
    }

    /// The guard of what is kept at `place`, shared by all of this process who keep it there. `place` may hold passwords:
    /// it is compared and never shown.
    pub fn of(role: &'static str, backend: &'static str, place: &str, policy: Policy) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (role, place.to_owned());
        if let Some(guard) = all.get(&key).and_then(Weak::upgrade) {
            return guard;
        }
        all.retain(|_, guard| guard.strong_count() > 0);
        let guard = Arc::new(Self::new(role, backend, policy));
        all.insert(key, Arc::downgrade(&guard));
        guard
    }

    /// What it knows about its store.
    pub fn state(&self) -> GuardState {
        let snapshot = self.breaker.snapshot(Instant::now());
        GuardState {
            role: self.role,
            backend: self.backend,
            condition: snapshot.condition,
            since: snapshot.since,
            retry_after: snapshot.retry_after,
            last_error: snapshot.last_error,
            answered: snapshot.answered,
            failed: snapshot.failed,
            refused: snapshot.refused,
            opened: snapshot.opened,
        }
    }

    /// Lets a call through once, or not at all. `future` does nothing until it is polled.
    async fn call<T>(&self, call: Call, future: impl Future<Output = Result<T>>) -> Result<T> {
        let pass = self.enter(call).await?;
        let began = Instant::now();
        let mut under_way = UnderWay { guard: self, call, pass: Some(pass), began };
        let limit = self.limit(call);
        let answer = tokio::time::timeout(limit, future).await;
        under_way.pass = None;
        match answer {
            Ok(answer) => {
                match answer.as_ref().err().filter(|error| is_failure(error)) {
                    None => self.tell(self.breaker.answered(pass, Instant::now)),
                    Some(error) => self.fail(pass, began, Failure::Error, chain(error)),
                }
                self.note_slow(call, began);
                answer
            }
            Err(_) => {
                let reason = format!("it did not {} within {}", call.action, Rough(limit));
                self.fail(pass, began, Failure::Deadline, reason);
                Err(self.unanswered(call, limit))
            }
        }
    }

    /// Lets the last call of all through, whether the store rests or not: what a backend holds back it writes then, and what it
    /// holds it lets go.
    async fn close(&self, future: impl Future<Output = Result<()>>) -> Result<()> {
        let call = long("close");
        let limit = self.limit(call);
        let answer = tokio::time::timeout(limit, future).await;
        answer.unwrap_or_else(|_| Err(self.unanswered(call, limit)))
    }

    fn unanswered(&self, call: Call, limit: Duration) -> Error {
        let waited = format!("there was no answer within {}", Rough(limit));
        Error::unavailable(self.backend, call.action, waited)
    }

    fn limit(&self, call: Call) -> Duration {
        let limit = self.policy.timeout.saturating_mul(if call.is_long { LONG } else { 1 });
        limit.saturating_add(limit / 2)
    }

    /// Waits until the call may go through, if it is patient. Who goes through at once pays for no more than a look.
    async fn enter(&self, call: Call) -> Result<Pass> {
        match self.breaker.admit(call.probe(), Instant::now) {
            Admission::Through(pass) => Ok(pass),
            Admission::Refused(rest) if call.manner == Manner::Eager => {
                Err(self.refuse(call, rest))
            }
            Admission::Refused(_) => self.wait(call).await,
        }
    }

    /// Waits until the store answers again, or until the call may be the probe; at most for the time of a call.
    async fn wait(&self, call: Call) -> Result<Pass> {
        let deadline = Instant::now() + self.policy.timeout;
        loop {
            let changed = self.breaker.changed.notified(); // what changes from here on is not missed
            let rest = match self.breaker.admit(call.probe(), Instant::now) {
                Admission::Through(pass) => return Ok(pass),
                Admission::Refused(rest) => rest,
            };
            let until = Instant::now() + rest.retry_after;
            if until > deadline {
                return Err(self.refuse(call, rest));
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn refuse(&self, call: Call, rest: Rest) -> Error {
        self.breaker.refused();
        let Rest { since, reason, retry_after } = rest;
        Error::Resting { backend: self.backend, action: call.action, since, reason, retry_after }
    }

    fn fail(&self, pass: Pass, began: Instant, failure: Failure, reason: String) {
        self.tell(self.breaker.failed(pass, began, Instant::now(), failure, reason));
    }

    /// One line for each change.
    fn tell(&self, change: Option<Change>) {
        let (store, backend) = (self.role, self.backend);
        match change {
            None => {}
            Some(Change::Opened { reason }) => {
                tracing::warn!(store, backend, error = %reason, "a store does not answer: it is left alone, and probed from time to time");
            }
            Some(Change::StaysOpen { reason, retry_after }) => {
                tracing::debug!(store, backend, error = %reason, ?retry_after, "a store still does not answer");
            }
            Some(Change::Closed { after }) => {
                tracing::info!(store, backend, failed_for = %Rough(after), "a store answers again");
            }
        }
    }

    /// Logs what took long, each kind of call once a minute.
    fn note_slow(&self, call: Call, began: Instant) {
        let took = began.elapsed();
        if took < self.policy.slow {
            return;
        }
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let lately = |last: &Instant| now - *last < Duration::from_secs(60);
        if !logged.get(call.action).is_some_and(lately) {
            logged.insert(call.action, now);
            let (store, backend, action) = (self.role, self.backend, call.action);
            tracing::warn!(store, backend, action, took = %Rough(took), "a store took long to answer");
        }
    }
}

/// Whether the store did not answer: an error that only it can give is an answer.
fn is_failure(error: &Error) -> bool {
    error.kind().is_passing()
}

/// A call that went through; tells the breaker when its caller goes away in its midst.
struct UnderWay<'a> {
    guard: &'a Guard,
    call: Call,
    /// `None` once it has come to an end.
    pass: Option<Pass>,
    began: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Some(pass) = self.pass else { return };
        let waited = self.began.elapsed();
        // Whoever waits that long has reason to give up; whoever leaves sooner may have reasons of their own.
        if waited >= self.guard.policy.timeout / 4 {
            let reason = format!("it did not {} within {}", self.call.action, Rough(waited));
            self.guard.fail(pass, self.began, Failure::Deadline, reason);
        } else {
            self.guard.breaker.abandoned(pass);
        }
    }
}
