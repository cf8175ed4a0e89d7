//! When a store is asked and when it is left alone: closed, open, half-open.
//!
//! Closed, every call goes through. It opens after several failures in a row, when half of many calls fail, or when a call
//! ran into its deadline and no other succeeded since it began. Open, nobody asks until a pause is over, which doubles with
//! every failed probe and which chance shortens, so that many processes do not come back at the same instant. Then it is
//! half-open: a few calls may go through as probes; the first that is answered closes it.
//!
//! A call that may take long is a probe only where no other wanted to be one for the longest pause, and in no other's place.
//!
//! What always holds: never more than [`Policy::probes`] probes are under way, and one that may take long; any answer closes
//! it; a probe whose caller went away leaves its place to another. While it is closed a call costs two atomic operations.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Policy;

/// Whether a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Every call goes through.
    Closed,
    /// None does.
    Open,
    /// A few do, to find out whether it answers again.
    HalfOpen,
}

impl Condition {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Whether a call may go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Through(Pass),
    /// It may not.
    Refused(Rest),
}

/// A store that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    /// For how long it has failed.
    pub since: Duration,
    /// How it failed at last.
    pub reason: String,
    /// How long until a probe may go through.
    pub retry_after: Duration,
}

/// How long a call may take that finds out whether the store answers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Short,
    Long,
}

/// What a call carries that went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    probe: Option<Probe>,
    /// Answers there had been when it began.
    answered: u64,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The store said so, or its client.
    Error,
    /// Its deadline was over, or its caller waited long and went away.
    Deadline,
}

/// What has become of it, for metrics and people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub condition: Condition,
    pub since: Duration,
    pub retry_after: Option<Duration>,
    pub last_error: Option<String>,
    pub answered: u64,
    pub failed: u64,
    pub refused: u64,
    pub opened: u64,
}

/// A change that somebody should read of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Opened {
        reason: String,
    },
    /// A probe failed.
    StaysOpen {
        reason: String,
        retry_after: Duration,
    },
    Closed {
        after: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    policy: Policy,
    /// Whether calls go through without a look at the rest.
    is_closed: AtomicBool,
    /// Whether the latest calls failed, so that an answer has something to reset.
    is_failing: AtomicBool,
    answered: AtomicU64,
    inner: Mutex<Inner>,
    /// Wakes those who wait to be let through.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct Inner {
    condition: Condition,
    since: Instant,
    /// When the run of failures began.
    failing_since: Option<Instant>,
    in_a_row: u32,
    window: Window,
    /// Probes that failed since it opened.
    rounds: u32,
    /// When the next probe may go through.
    due: Instant,
    probes: usize,
    long_probes: usize,
    last_error: Option<String>,
    failed: u64,
    refused: u64,
    opened: u64,
}

/// Failures of late, beside the answers.
#[derive(Debug)]
struct Window {
    start: Instant,
    answered: u64,
    failed: u64,
}

impl Inner {
    /// Probes of that kind under way.
    fn probes(&mut self, probe: Probe) -> &mut usize {
        match probe {
            Probe::Short => &mut self.probes,
            Probe::Long => &mut self.long_probes,
        }
    }

    /// A call is over; if it was a probe its place is free.
    fn is_back(&mut self, pass: Pass) {
        if let Some(probe) = pass.probe {
            *self.probes(probe) -= 1;
        }
    }
}

impl Breaker {
    pub(super) fn new(policy: Policy, now: Instant) -> Self {
        Self {
            policy,
            is_closed: AtomicBool::new(true),
            is_failing: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                condition: Condition::Closed,
                since: now,
                failing_since: None,
                in_a_row: 0,
                window: Window { start: now, answered: 0, failed: 0 },
                rounds: 0,
                due: now,
                probes: 0,
                long_probes: 0,
                last_error: None,
                failed: 0,
                refused: 0,
                opened: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// What changes here is whole after each statement: a panic elsewhere leaves nothing half done.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may go through now, and be a probe of that kind if that is what it takes. Every [`Admission::Through`] is to be followed by one of
    /// [`Self::answered`], [`Self::failed`] and [`Self::abandoned`].
    pub(super) fn admit(&self, as_probe: Probe, now: impl Fn() -> Instant) -> Admission {
        let answered = self.answered.load(Ordering::Relaxed);
        if self.is_closed.load(Ordering::Acquire) {
            return Admission::Through(Pass { probe: None, answered });
        }
        let now = now();
        let mut inner = self.inner();
        if inner.condition == Condition::Closed {
            return Admission::Through(Pass { probe: None, answered });
        }
        let (due, most) = match as_probe {
            Probe::Short => (inner.due, self.policy.probes),
            Probe::Long => (inner.due + self.policy.longest_pause, 1),
        };
        if due <= now && *inner.probes(as_probe) < most {
            *inner.probes(as_probe) += 1;
            if inner.condition == Condition::Open {
                inner.condition = Condition::HalfOpen;
                inner.since = now;
            }
            return Admission::Through(Pass { probe: Some(as_probe), answered });
        }
        // While a probe is under way there is no telling when it ends.
        let retry_after = due.saturating_duration_since(now).max(self.policy.first_pause / 4);
        Admission::Refused(Rest {
            since: inner.failing_since.map_or(Duration::ZERO, |since| now - since),
            reason: inner.last_error.clone().unwrap_or_default(),
            retry_after,
        })
    }

    /// A call was told that the store rests.
    pub(super) fn refused(&self) {
        self.inner().refused += 1;
    }

    /// A call was answered, be it by an error that only a store can give.
    pub(super) fn answered(&self, pass: Pass, now: impl Fn() -> Instant) -> Option<Change> {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let is_quiet = pass.probe.is_none() && !self.is_failing.load(Ordering::Relaxed);
        if is_quiet && self.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        let now = now();
        let mut inner = self.inner();
        inner.is_back(pass);
        inner.in_a_row = 0;
        let began = inner.failing_since.take();
        self.is_failing.store(false, Ordering::Relaxed);
        if inner.condition == Condition::Closed {
            return None;
        }
        inner.condition = Condition::Closed;
        inner.since = now;
        inner.rounds = 0;
        inner.window = self.window(now);
        self.is_closed.store(true, Ordering::Release);
        drop(inner);
        self.changed.notify_waiters();
        Some(Change::Closed { after: began.map_or(Duration::ZERO, |began| now - began) })
    }

    /// A call that began at `began` has no answer. `reason` must not hold passwords.
    pub(super) fn failed(
        &self,
        pass: Pass,
        began: Instant,
        now: Instant,
        failure: Failure,
        reason: String,
    ) -> Option<Change> {
        let mut inner = self.inner();
        inner.is_back(pass);
        inner.failed += 1;
        inner.in_a_row = inner.in_a_row.saturating_add(1);
        inner.failing_since.get_or_insert(began);
        inner.last_error = Some(reason.clone());
        self.is_failing.store(true, Ordering::Relaxed);
        if now - inner.window.start > self.policy.window {
            inner.window = self.window(now);
        }
        inner.window.failed += 1;
        // Read after the window began: never less than it began with.
        let answered = self.answered.load(Ordering::Relaxed);
        let hangs = failure == Failure::Deadline && pass.answered == answered;
        match inner.condition {
            Condition::Closed if hangs || self.is_too_much(&inner, answered) => {
                inner.opened += 1;
                self.open(&mut inner, now);
                self.is_closed.store(false, Ordering::Release);
                Some(Change::Opened { reason })
            }
            Condition::HalfOpen if pass.probe.is_some() => {
                inner.rounds = inner.rounds.saturating_add(1);
                self.open(&mut inner, now);
                let retry_after = inner.due - now;
                drop(inner);
                self.changed.notify_waiters(); // there is another instant to wait for
                Some(Change::StaysOpen { reason, retry_after })
            }
            // One that began before it opened.
            _ => None,
        }
    }

    /// A call's caller went away before long: nothing is known.
    pub(super) fn abandoned(&self, pass: Pass) {
        if pass.probe.is_none() {
            return;
        }
        self.inner().is_back(pass);
        self.changed.notify_waiters(); // somebody else may be the probe
    }

    fn is_too_much(&self, inner: &Inner, answered: u64) -> bool {
        let (failed, good) = (inner.window.failed, answered - inner.window.answered);
        let many = failed + good >= self.policy.least && failed >= good;
        inner.in_a_row >= self.policy.in_a_row || many
    }

    fn open(&self, inner: &mut Inner, now: Instant) {
        inner.condition = Condition::Open;
        inner.since = now;
        inner.due = now + self.policy.pause(inner.rounds, (self.policy.roll)());
    }

    fn window(&self, now: Instant) -> Window {
        Window { start: now, answered: self.answered.load(Ordering::Relaxed), failed: 0 }
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let inner = self.inner();
        let rests = inner.condition != Condition::Closed;
        Snapshot {
            condition: inner.condition,
            since: now.saturating_duration_since(inner.since),
            retry_after: rests.then(|| inner.due.saturating_duration_since(now)),
            last_error: inner.last_error.clone(),
            answered: self.answered.load(Ordering::Relaxed),
            failed: inner.failed,
            refused: inner.refused,
            opened: inner.opened,
        }
    }
}

impl Policy {
    /// How long nobody asks after so many failed probes; `roll` is uniform in `0.0..1.0`.
    pub fn pause(&self, rounds: u32, roll: f64) -> Duration {
        let ceiling = self.first_pause.saturating_mul(1 << rounds.min(16)).min(self.longest_pause);
        ceiling.mul_f64(roll.clamp(0.0, 1.0))
    }
}

/// A number by chance, uniform in `0.0..1.0`.
pub(super) fn roll() -> f64 {
    // The standard library's hashers are keyed by chance, which is all that is needed here.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let roll = bits as f64 / (1_u64 << 53) as f64;
    roll
}
