//! Values that are kept elsewhere and lose their task: whoever keeps them there is told.

use omniq_model::{Payload, TaskId, Value};

use super::Core;
use super::slot::Slot;
use crate::log::outside::OUTSIDE;

/// A value that is kept elsewhere and belongs to nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// To which task it belonged.
    pub task: TaskId,
    /// Its stand-in.
    pub value: Payload,
}

impl Core {
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
        if let Some(Value::Inline(payload)) = value {
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
