//! What a task store means, as code: a deterministic state machine without I/O, clock or randomness.
//!
//! It defines the promises of [`TaskStore`](crate::TaskStore): the same calls at the same instants always give the same
//! answers. The memory backend is this behind a lock; the tests of every other backend compare against it. Each call
//! takes `now`, which must never go back.
//!
//! What always holds: a task's state changes in one place only (`enter` in `index.rs`), which checks the table of
//! allowed moves and keeps every index in step. No call costs more for a longer backlog or history than the logarithm of
//! it, except lists and counts by what is not indexed (module, function, labels, arrival).

mod claim;
mod control;
mod copy;
#[cfg(any(feature = "nats", feature = "object"))]
mod dropped;
mod edges;
mod enqueue;
mod finish;
#[cfg(any(feature = "nats", feature = "object"))]
mod idle;
#[cfg(any(feature = "nats", feature = "object"))]
mod image;
mod index;
mod keys;
mod lanes;
mod read;
mod schedule;
mod session;
mod slot;
mod stats;
mod time;

#[cfg(test)]
mod tests;

#[cfg(any(feature = "nats", feature = "object"))]
pub use self::dropped::Dropped;
#[cfg(any(feature = "nats", feature = "object"))]
pub use self::image::Image;

use std::collections::{BTreeMap, HashMap};

use omniq_model::{TaskId, Timestamp};

use self::edges::Edges;
use self::keys::Keys;
use self::lanes::Lanes;
use self::schedule::Schedules;
use self::session::Sessions;
use self::slot::{Ix, Slots};

/// The state machine.
#[derive(Debug, Default)]
pub struct Core {
    slots: Slots,
    ids: HashMap<TaskId, Ix>,
    /// Per state, in the order of arrival.
    by_state: [BTreeMap<u64, Ix>; 8],
    lanes: Lanes,
    /// Scheduled tasks by when they are due.
    due: BTreeMap<(Timestamp, u64), Ix>,
    /// Tasks without an attempt that counts, by the end of their time to live.
    expiry: BTreeMap<(Timestamp, u64), Ix>,
    /// Ended tasks by their end.
    ended: BTreeMap<(Timestamp, TaskId), Ix>,
    /// Ended tasks by when they are forgotten.
    kept: BTreeMap<(Timestamp, u64), Ix>,
    edges: Edges,
    keys: Keys,
    sessions: Sessions,
    schedules: Schedules,
    last_seq: u64,
    changed: Changed,
    /// Values kept elsewhere that lost their task; `None` where nobody asks.
    #[cfg(any(feature = "nats", feature = "object"))]
    dropped: Option<Vec<Dropped>>,
}

/// What has changed since it was last asked for: whom it may interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Something became ready or was scheduled, a lane was let go, or a running task is to stop.
    pub work: bool,
    /// A task ended.
    pub ends: bool,
}

impl Core {
    /// A store without anything in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has changed since the last call of this.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }
}
