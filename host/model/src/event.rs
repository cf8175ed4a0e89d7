//! What happened to a task, one line of the log each.

use crate::id::{SessionId, TaskId};
use crate::record::{numbered, record};
use crate::result::TaskError;
use crate::state::State;
use crate::task::Lane;
use crate::time::Timestamp;

numbered! {
    /// What happened.
    pub enum EventKind {
        /// It was accepted.
        Enqueued = 0 "enqueued",
        /// An attempt began.
        Started = 1 "started",
        /// An attempt failed and another follows.
        Retrying = 2 "retrying",
        /// It went back to its queue without an attempt being counted.
        Released = 3 "released",
        /// Its worker died or lost its lease.
        LeaseLost = 4 "lease-lost",
        /// A worker came back with an attempt that was no longer the current one.
        Fenced = 5 "fenced",
        /// It ended with a result.
        Succeeded = 6 "succeeded",
        /// It failed for good.
        Failed = 7 "failed",
        /// It was called off.
        Cancelled = 8 "cancelled",
        /// It did not start in time.
        Expired = 9 "expired",
        /// Somebody asked for the running attempt to be stopped.
        CancelRequested = 10 "cancel-requested",
        /// Somebody retried it by hand.
        Retried = 11 "retried",
        /// Events were lost here; `data` says how many.
        Gap = 12 "gap",
    }
}

impl EventKind {
    /// Whether it is written by the worker of an attempt, when the attempt is over.
    pub const fn ends_attempt(self) -> bool {
        matches!(
            self,
            Self::Retrying
                | Self::Released
                | Self::Fenced
                | Self::Succeeded
                | Self::Failed
                | Self::Cancelled
        )
    }

    /// The event that a task's end gives.
    pub const fn of_end(state: State) -> Option<Self> {
        match state {
            State::Succeeded => Some(Self::Succeeded),
            State::Failed => Some(Self::Failed),
            State::Cancelled => Some(Self::Cancelled),
            State::Expired => Some(Self::Expired),
            _ => None,
        }
    }
}

record! {
    /// One thing that happened. `task`, `fence` and `kind` together are its identity: the same event is kept once,
    /// however often it is written.
    pub struct TaskEvent {
        /// To which task.
        1 => task: TaskId,
        /// The fence of the claim it belongs to; 0 before the first.
        2 => fence: u64,
        /// What.
        3 => kind: EventKind,
        /// When, by the clock of whoever saw it.
        4 => at: Timestamp,
        /// Whose task, in which queue.
        5 => lane: Lane = default,
        /// Which attempt.
        6 => attempt: u32 = default,
        /// Which worker.
        7 => session: Option<SessionId> = default,
        /// Why, where something went wrong.
        8 => error: Option<Box<TaskError>> = default,
        /// How long the attempt ran, in microseconds.
        9 => micros: u64 = default,
        /// For a gap: how many are missing.
        10 => missing: u64 = default,
        /// `module.function`, for people.
        11 => what: String = default,
        /// When the attempt began, of an end that tells of that too: it stands for two events, and every store gives them
        /// back [apart](Self::apart).
        12 => began: Option<Timestamp> = default,
    }
}

impl TaskEvent {
    /// What it tells, each for itself: the beginning of its attempt, where it tells of that, and all the rest.
    pub fn apart(mut self) -> (Option<Self>, Self) {
        let began = self.began.take();
        (began.map(|at| self.beginning(at)), self)
    }

    /// The event that the attempt began at that instant, of the event that it ended.
    pub fn beginning(&self, at: Timestamp) -> Self {
        Self { kind: EventKind::Started, at, error: None, micros: 0, began: None, ..self.clone() }
    }
}
