//! What people do to tasks: call them off, try them again, forget them, hold a lane back.

use omniq_model::{Lane, State, Timestamp};

use super::Core;
use super::finish::cancelled;
use super::slot::{Ix, Slot};
use crate::{Outcome, Select};

const WAITING: [State; 3] = [State::Blocked, State::Scheduled, State::Ready];
const ENDED: [State; 4] = [State::Succeeded, State::Failed, State::Cancelled, State::Expired];

impl Core {
    /// See [`TaskStore::cancel`](crate::TaskStore::cancel).
    pub fn cancel(&mut self, now: Timestamp, select: &Select) -> Outcome {
        let by_id = !select.filter.ids.is_empty();
        let can = |slot: &Slot| match slot.state {
            State::Running => by_id || !slot.cancel_requested,
            state => WAITING.contains(&state),
        };
        let (chosen, mut outcome) = self.choose(select, can);
        // Children before their parents: what is chosen itself is called off, not a victim of its parent's end.
        for ix in chosen.into_iter().rev() {
            let from = self.slots[ix].state;
            if from == State::Running {
                self.call_off(ix);
                outcome.requested.push(self.slots[ix].id);
            } else {
                self.end_without(now, ix, State::Cancelled, cancelled());
                outcome.moved.push(self.slots[ix].moved(from));
            }
        }
        outcome.moved.reverse();
        outcome.requested.reverse();
        outcome
    }

    fn call_off(&mut self, ix: Ix) {
        let slot = &mut self.slots[ix];
        slot.cancel_requested = true;
        self.sessions.call_off(ix, slot);
        self.changed.work = true;
    }

    /// See [`TaskStore::retry`](crate::TaskStore::retry).
    pub fn retry(&mut self, now: Timestamp, select: &Select) -> Outcome {
        let can = |slot: &Slot| {
            let failed = slot.state.is_terminal() && slot.state != State::Succeeded;
            failed && self.key_is_free(slot, now)
        };
        let (chosen, mut outcome) = self.choose(select, can);
        for ix in chosen {
            let slot = &self.slots[ix];
            let from = slot.state;
            if !self.key_is_free(slot, now) {
                // One retried just now took it.
                if !select.filter.ids.is_empty() {
                    outcome.skipped.push((slot.id, from));
                }
                continue;
            }
            self.revive(now, ix);
            outcome.moved.push(self.slots[ix].moved(from));
        }
        outcome
    }

    fn key_is_free(&self, slot: &Slot, now: Timestamp) -> bool {
        let holder = self.keys.holder(&slot.task, now);
        holder.is_none_or(|holder| self.slots[holder].id == slot.id)
    }

    fn revive(&mut self, now: Timestamp, ix: Ix) {
        self.enter(ix, State::Ready, |slot| {
            slot.attempt = 0;
            slot.crashes = 0;
            slot.unmet = 0;
            slot.cancel_requested = false;
            slot.expires = slot.task.expires_at(now);
            slot.finished = None;
            // The error of the latest attempt stays to be seen.
            let result = slot.result.take();
            slot.error = result.and_then(|result| result.error.clone()).map(Box::new);
        });
        self.keys.take(ix, &self.slots[ix], now);
    }

    /// See [`TaskStore::remove`](crate::TaskStore::remove).
    pub fn remove(&mut self, select: &Select) -> Outcome {
        let (chosen, mut outcome) = self.choose(select, |slot| ENDED.contains(&slot.state));
        for ix in chosen {
            let slot = &self.slots[ix];
            outcome.moved.push(slot.moved(slot.state));
            self.forget(ix);
        }
        outcome
    }

    /// See [`TaskStore::pause`](crate::TaskStore::pause).
    pub fn pause(&mut self, lane: &Lane, paused: bool) {
        self.changed.work |= self.lanes.pause(lane, paused);
    }

    /// See [`TaskStore::ready_lanes`](crate::TaskStore::ready_lanes).
    pub fn ready_lanes(&self, after: Option<&Lane>, max: usize) -> Vec<Lane> {
        self.lanes.active(after, max)
    }

    /// The oldest tasks of the selection that the call can change, and an outcome that names the others where it should.
    fn choose(&self, select: &Select, can: impl Fn(&Slot) -> bool) -> (Vec<Ix>, Outcome) {
        let by_id = !select.filter.ids.is_empty();
        let mut outcome = Outcome::default();
        let mut chosen = Vec::new();
        if select.max == 0 {
            return (chosen, outcome);
        }
        for ix in self.matching(&select.filter, 0..u64::MAX, false) {
            let slot = &self.slots[ix];
            if can(slot) {
                chosen.push(ix);
                if chosen.len() == select.max {
                    break;
                }
            } else if by_id {
                outcome.skipped.push((slot.id, slot.state));
            }
        }
        (chosen, outcome)
    }
}
