//! Schedules: kept, and moved on together with the tasks they make.

use std::collections::{BTreeMap, BTreeSet};

use omniq_model::{Name, Schedule, Timestamp};

use super::Core;
use crate::{Fire, Fired};

type Key = (Name, Name);

#[derive(Debug, Default)]
pub(super) struct Schedules {
    all: BTreeMap<Key, Schedule>,
    /// Those that are not paused, by when they fire next.
    due: BTreeSet<(Timestamp, Key)>,
    /// The latest version of any. One counter for all, so that a name that is used again gets a higher one.
    version: u64,
}

impl Schedules {
    fn put(&mut self, mut schedule: Schedule) -> Option<u64> {
        let key = (schedule.tenant.clone(), schedule.name.clone());
        if self.all.get(&key).map_or(0, |current| current.version) != schedule.version {
            return None;
        }
        self.remove(&key);
        self.version += 1;
        schedule.version = self.version;
        self.due.extend(due(&schedule));
        self.all.insert(key, schedule);
        Some(self.version)
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(schedule) = self.all.remove(key) else { return false };
        if let Some(due) = due(&schedule) {
            self.due.remove(&due);
        }
        true
    }

    /// Moves a schedule on, if it still is as the firing saw it.
    fn advance(&mut self, fire: &Fire) -> bool {
        let Some(schedule) = self.all.get(&(fire.tenant.clone(), fire.name.clone())) else {
            return false;
        };
        if schedule.version != fire.version || schedule.paused.is_some() {
            return false;
        }
        let next = Schedule { next: fire.next, ..schedule.clone() };
        self.put(next).is_some()
    }

    /// All of them, by name, and the latest version of any.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn all(&self) -> (impl Iterator<Item = &Schedule>, u64) {
        (self.all.values(), self.version)
    }

    /// Takes schedules as an image says.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn restore(&mut self, schedules: Vec<Schedule>, version: u64) {
        for schedule in schedules {
            self.due.extend(due(&schedule));
            self.all.insert((schedule.tenant.clone(), schedule.name.clone()), schedule);
        }
        self.version = version;
    }

    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        self.due == self.all.values().filter_map(due).collect()
    }
}

fn due(schedule: &Schedule) -> Option<(Timestamp, Key)> {
    let next = schedule.next.filter(|_| schedule.paused.is_none())?;
    Some((next, (schedule.tenant.clone(), schedule.name.clone())))
}

impl Core {
    /// See [`TaskStore::put_schedules`](crate::TaskStore::put_schedules).
    pub fn put_schedules(&mut self, schedules: Vec<Schedule>) -> Vec<Option<u64>> {
        schedules.into_iter().map(|schedule| self.schedules.put(schedule)).collect()
    }

    /// See [`TaskStore::remove_schedules`](crate::TaskStore::remove_schedules).
    pub fn remove_schedules(&mut self, names: &[(Name, Name)]) -> Vec<bool> {
        names.iter().map(|key| self.schedules.remove(key)).collect()
    }

    /// See [`TaskStore::schedules`](crate::TaskStore::schedules).
    pub fn schedules(&self, tenant: Option<&Name>) -> Vec<Schedule> {
        let all = self.schedules.all.values();
        all.filter(|schedule| tenant.is_none_or(|tenant| *tenant == schedule.tenant))
            .cloned()
            .collect()
    }

    /// See [`TaskStore::due_schedules`](crate::TaskStore::due_schedules).
    pub fn due_schedules(&self, now: Timestamp, max: usize) -> Vec<Schedule> {
        let due = self.schedules.due.iter().take_while(|(next, _)| *next <= now);
        due.take(max).filter_map(|(_, key)| self.schedules.all.get(key)).cloned().collect()
    }

    /// See [`TaskStore::fire`](crate::TaskStore::fire).
    pub fn fire(&mut self, now: Timestamp, fires: Vec<Fire>) -> Vec<Fired> {
        fires.into_iter().map(|fire| self.fire_one(now, fire)).collect()
    }

    fn fire_one(&mut self, now: Timestamp, fire: Fire) -> Fired {
        if !self.schedules.advance(&fire) {
            return Fired::Lost;
        }
        // One that is there already was made by an earlier firing of the same instant; one whose unique key is taken
        // is not to be made.
        self.enqueue(now, fire.tasks);
        Fired::Fired
    }
}
