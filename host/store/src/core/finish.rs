//! How attempts end.

use omniq_model::{Kind, State, TaskError, Timestamp};

use super::Core;
use super::slot::{Ix, Slot};
use crate::{End, Finished, How};

impl Core {
    /// See [`TaskStore::finish`](crate::TaskStore::finish). The token alone decides, whatever became of the session.
    pub fn finish(&mut self, now: Timestamp, ends: Vec<End>) -> Vec<Finished> {
        ends.into_iter().map(|end| self.finish_one(now, end)).collect()
    }

    fn finish_one(&mut self, now: Timestamp, end: End) -> Finished {
        let Some(ix) = self.ids.get(&end.id).copied() else { return Finished::Stale };
        let slot = &self.slots[ix];
        if !slot.claimed_by(end.token) {
            return Finished::Stale;
        }
        if slot.state != State::Running {
            // Taken away without an end: it went to somebody else, or will.
            let answer = Finished::AppliedBefore(slot.state);
            return if slot.committed { answer } else { Finished::Stale };
        }
        self.apply(now, ix, end.how);
        Finished::Applied(self.slots[ix].state)
    }

    fn apply(&mut self, now: Timestamp, ix: Ix, how: How) {
        let commit = |slot: &mut Slot| slot.committed = true;
        match how {
            How::Succeeded(result) => self.end(now, ix, State::Succeeded, result, commit),
            How::Failed(result) => self.end(now, ix, State::Failed, result, commit),
            How::Cancelled(result) => self.end(now, ix, State::Cancelled, result, commit),
            How::Retry { after, error } => self.put_back(now, ix, now + after, |slot| {
                slot.committed = true;
                slot.error = Some(Box::new(error));
            }),
            How::Release { after, error } => self.put_back(now, ix, now + after, |slot| {
                slot.committed = true;
                slot.attempt = slot.attempt.saturating_sub(1);
                if let Some(error) = error {
                    slot.error = Some(Box::new(error));
                }
            }),
        }
    }

    /// Puts a running task back, to wait until `at`; one that was to be cancelled is cancelled.
    pub(super) fn put_back(
        &mut self,
        now: Timestamp,
        ix: Ix,
        at: Timestamp,
        change: impl FnOnce(&mut Slot),
    ) {
        if self.slots[ix].cancel_requested {
            let result = omniq_model::TaskResult::failure(cancelled()).into();
            self.end(now, ix, State::Cancelled, result, change);
        } else {
            self.wait_until(now, ix, at, change);
        }
    }
}

/// Why a cancelled task has no result.
pub(super) fn cancelled() -> TaskError {
    TaskError::new(Kind::Cancelled, "it was called off")
}
