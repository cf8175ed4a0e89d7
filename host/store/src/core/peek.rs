//! Whether a call would do anything: for backends to whom a call costs more than a look.

use omniq_model::{Payload, TaskId, Timestamp};

use super::Core;
use super::slot::Slot;
use crate::log::outside::OUTSIDE;
use crate::{Due, Session, Want};

/// A value that is kept elsewhere and belongs to nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// To which task it belonged.
    pub task: TaskId,
    /// Its stand-in.
    pub value: Payload,
}

impl Core {
    /// Whether a claim may change anything or lease something.
    pub fn may_claim(&self, now: Timestamp, session: &Session, wants: &[Want]) -> bool {
        let ready = |want: &Want| {
            let lane = self.lanes.find(&want.lane);
            want.max > 0 && lane.is_some_and(|lane| self.lanes.first_ready(lane).is_some())
        };
        self.sessions.lives(session.id, now) && wants.iter().any(ready)
    }

    /// What [`Self::promote`] answers while there is nothing to do.
    pub fn nothing_due(&self, now: Timestamp) -> Option<Due> {
        let next = self.due.first_key_value().map(|((at, _), _)| *at);
        let due = next.is_some_and(|at| at <= now);
        (!due).then(|| Due { promoted: 0, next: next.map(|at| at.since(now)) })
    }

    /// Whether [`Self::reclaim`] would do anything.
    pub fn may_reclaim(&self, now: Timestamp) -> bool {
        self.sessions.dead(now).next().is_some()
    }

    /// Whether [`Self::expire`] would do anything.
    pub fn may_expire(&self, now: Timestamp) -> bool {
        self.expiry.first_key_value().is_some_and(|((at, _), _)| *at <= now)
    }

    /// Whether [`Self::purge`] would do anything.
    pub fn may_purge(&self, now: Timestamp) -> bool {
        self.kept.first_key_value().is_some_and(|((at, _), _)| *at <= now)
    }

    /// From now on notes the values that are kept elsewhere and lose their task.
    pub fn note_dropped(&mut self) {
        self.dropped = Some(Vec::new());
    }

    /// What was noted since this was last asked.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        self.dropped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes what a task leaves behind that is forgotten.
    pub(super) fn drop_values(&mut self, slot: &Slot) {
        self.drop_value(slot.id, Some(&slot.task.args));
        self.drop_result(slot);
    }

    /// Notes what a task leaves behind that loses its result.
    pub(super) fn drop_result(&mut self, slot: &Slot) {
        let value = slot.result.as_ref().and_then(|result| result.value.as_ref());
        if let Some(omniq_model::Value::Inline(payload)) = value {
            self.drop_value(slot.id, Some(payload));
        }
    }

    fn drop_value(&mut self, task: TaskId, value: Option<&Payload>) {
        if let (Some(dropped), Some(value)) = (&mut self.dropped, value)
            && value.format == OUTSIDE
        {
            dropped.push(Dropped { task, value: value.clone() });
        }
    }
}
