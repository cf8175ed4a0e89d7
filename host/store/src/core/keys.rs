//! Unique keys: which task of a tenant holds each, and until when.

use std::collections::HashMap;

use omniq_model::{Name, Scope, State, Task, Timestamp};

use super::slot::{Ix, Slot};

#[derive(Debug, Clone, Copy)]
struct Holder {
    task: Ix,
    /// For a window: its end.
    until: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<Name, HashMap<String, Holder>>);

impl Keys {
    /// Who holds the key that `task` wants, if anybody does.
    pub(super) fn holder(&self, task: &Task, now: Timestamp) -> Option<Ix> {
        let unique = task.unique.as_ref()?;
        let holder = self.0.get(&task.lane.tenant)?.get(&unique.key)?;
        let over = holder.until.is_some_and(|until| until <= now);
        (!over).then_some(holder.task)
    }

    /// Takes a task's key, which is free, at `now`. A window that is over by then takes nothing.
    pub(super) fn take(&mut self, ix: Ix, slot: &Slot, now: Timestamp) {
        let Some(unique) = &slot.task.unique else { return };
        let window = unique.scope == Scope::Window;
        let until = window.then(|| slot.created + unique.window.get());
        if until.is_none_or(|until| now < until) {
            let keys = self.0.entry(slot.task.lane.tenant.clone()).or_default();
            keys.insert(unique.key.clone(), Holder { task: ix, until });
        }
    }

    /// Frees a task's key if its state, in which it is now, frees it.
    pub(super) fn settle(&mut self, ix: Ix, slot: &Slot) {
        let Some(unique) = &slot.task.unique else { return };
        let free = match unique.scope {
            Scope::Window => false,
            Scope::UntilStarted => slot.state == State::Running || slot.state.is_terminal(),
            // What a newer version means is not known here: until the end is the careful choice.
            Scope::UntilFinished | Scope::Other(_) => slot.state.is_terminal(),
        };
        if free {
            self.free(ix, &slot.task);
        }
    }

    /// Frees a task's key, if the task holds it.
    pub(super) fn free(&mut self, ix: Ix, task: &Task) {
        let Some(unique) = &task.unique else { return };
        let Some(keys) = self.0.get_mut(&task.lane.tenant) else { return };
        if keys.get(&unique.key).is_some_and(|holder| holder.task == ix) {
            keys.remove(&unique.key);
            if keys.is_empty() {
                self.0.remove(&task.lane.tenant);
            }
        }
    }

    /// All that are taken, in no order: whose, which, by what task and until when.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn holders(&self) -> impl Iterator<Item = (&Name, &str, Ix, Option<Timestamp>)> {
        self.0.iter().flat_map(|(tenant, keys)| {
            keys.iter().map(move |(key, holder)| (tenant, key.as_str(), holder.task, holder.until))
        })
    }

    /// Takes a key as an image says.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn restore(
        &mut self,
        tenant: Name,
        key: String,
        task: Ix,
        until: Option<Timestamp>,
    ) {
        self.0.entry(tenant).or_default().insert(key, Holder { task, until });
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &str, Ix)> {
        self.0.iter().flat_map(|(tenant, keys)| {
            keys.iter().map(move |(key, holder)| (tenant, key.as_str(), holder.task))
        })
    }
}
