//! What time does: tasks become due, sessions die, time to live runs out, results are forgotten.

use omniq_model::{Kind, State, TaskError, Timestamp};

use super::Core;
use super::slot::Ix;
use crate::{Due, Moved};

impl Core {
    /// See [`TaskStore::promote`](crate::TaskStore::promote).
    pub fn promote(&mut self, now: Timestamp, max: usize) -> Due {
        let mut due = Due::default();
        while let Some(((at, _), ix)) = self.due.first_key_value() {
            let (at, ix) = (*at, *ix);
            if at > now || due.promoted == max {
                due.next = Some(at.since(now));
                break;
            }
            self.wait_until(now, ix, at, |_| {});
            due.promoted += 1;
        }
        due
    }

    /// See [`TaskStore::reclaim`](crate::TaskStore::reclaim).
    pub fn reclaim(&mut self, now: Timestamp, max: usize) -> Vec<Moved> {
        let mut lost: Vec<(u64, Ix)> = Vec::new();
        for (_, session) in self.sessions.dead(now) {
            lost.extend(session.held.iter().take(max).map(|(seq, ix)| (*seq, *ix)));
        }
        lost.sort_unstable();
        lost.truncate(max);
        let moved = lost.into_iter().map(|(_, ix)| self.crash(now, ix)).collect();
        self.sessions.tidy(now);
        moved
    }

    /// A task's worker died.
    fn crash(&mut self, now: Timestamp, ix: Ix) -> Moved {
        let slot = &mut self.slots[ix];
        slot.crashes = slot.crashes.saturating_add(1);
        slot.attempt = slot.attempt.saturating_sub(1);
        let crashes = slot.crashes;
        if crashes > slot.task.retry.crashes && !slot.cancel_requested {
            self.end_without(now, ix, State::Failed, crashed(crashes));
        } else {
            self.put_back(now, ix, now, |_| {});
        }
        self.slots[ix].moved(State::Running)
    }

    /// See [`TaskStore::expire`](crate::TaskStore::expire).
    pub fn expire(&mut self, now: Timestamp, max: usize) -> Vec<Moved> {
        let mut moved = Vec::new();
        while moved.len() < max
            && let Some((_, ix)) = self.expiry.first_key_value().filter(|((at, _), _)| *at <= now)
        {
            let ix = *ix;
            let from = self.slots[ix].state;
            self.end_without(now, ix, State::Expired, expired());
            moved.push(self.slots[ix].moved(from));
        }
        moved
    }

    /// See [`TaskStore::purge`](crate::TaskStore::purge).
    pub fn purge(&mut self, now: Timestamp, max: usize) -> usize {
        let mut purged = 0;
        while purged < max
            && let Some((_, ix)) = self.kept.first_key_value().filter(|((at, _), _)| *at <= now)
        {
            self.forget(*ix);
            purged += 1;
        }
        purged
    }
}

/// Why a task that was not started in time has no result.
pub(super) fn expired() -> TaskError {
    TaskError::new(Kind::Expired, "it did not start within its time to live")
}

fn crashed(crashes: u32) -> TaskError {
    let times = if crashes == 1 { "once".to_owned() } else { format!("{crashes} times") };
    TaskError::new(Kind::Crashed, format!("its worker died under it {times}"))
}
