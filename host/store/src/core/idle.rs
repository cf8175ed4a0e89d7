//! What a call would find to do, without doing it: a log need not hold what changes nothing.

use omniq_model::{Lane, Timestamp};

use super::Core;

impl Core {
    /// When the next scheduled task is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether a session is dead by now that is to be cleared away.
    pub fn has_dead_session(&self, now: Timestamp) -> bool {
        self.sessions.dead(now).next().is_some()
    }

    /// Whether the time to live of a waiting task is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expiry.first_key_value().is_some_and(|((at, _), _)| *at <= now)
    }

    /// Whether an ended task is to be forgotten.
    pub fn has_forgettable(&self, now: Timestamp) -> bool {
        self.kept.first_key_value().is_some_and(|((at, _), _)| *at <= now)
    }

    /// Whether a lane has anything to claim.
    pub fn has_ready(&self, lane: &Lane) -> bool {
        self.lanes.find(lane).is_some_and(|lane| self.lanes.first_ready(lane).is_some())
    }
}
