//! Tasks on their way to another store and from one.

use std::sync::Arc;

use omniq_model::{State, Task, Timestamp, Token};

use super::Core;
use super::read::PAGE_BYTES;
use super::slot::{Ix, Slot, place};
use crate::{CopyPage, Filter, Imported, TaskCopy};

impl Core {
    /// See [`Admin::export`](crate::Admin::export).
    pub fn export(&self, now: Timestamp, after: Option<u64>, max: usize) -> CopyPage {
        let all = Filter::default();
        let from = after.map_or(0, |seq| seq.saturating_add(1));
        let mut later = self.matching(&all, from..u64::MAX, false);
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < max
            && bytes < PAGE_BYTES
            && let Some(ix) = later.next()
        {
            bytes = self.slots[ix].weight().saturating_add(bytes);
            items.push(self.copy_of(now, ix));
        }
        let last = items.last().map(|item: &TaskCopy| item.info.head.seq);
        let next = last.filter(|_| later.next().is_some());
        CopyPage { items, next }
    }

    fn copy_of(&self, now: Timestamp, ix: Ix) -> TaskCopy {
        let slot = &self.slots[ix];
        let holds_key = self.keys.holder(&slot.task, now) == Some(ix);
        TaskCopy { info: slot.info(), expires: slot.expires, holds_key }
    }

    /// See [`Admin::import`](crate::Admin::import).
    pub fn import(&mut self, now: Timestamp, tasks: Vec<TaskCopy>) -> Vec<Imported> {
        tasks.into_iter().map(|copy| self.import_one(now, copy)).collect()
    }

    fn import_one(&mut self, now: Timestamp, copy: TaskCopy) -> Imported {
        let copy = copy.landed();
        if self.ids.contains_key(&copy.info.id) {
            return Imported::There;
        }
        let Ok(task) = copy.info.task.clone() else { return Imported::Unreadable };
        if matches!(copy.info.head.state, State::Other(_)) {
            return Imported::Unreadable;
        }
        let holder = self.keys.holder(&task, now).filter(|_| copy.holds_key);
        if let Some(holder) = holder {
            return Imported::KeyTaken(self.slots[holder].id);
        }
        self.land(now, task, copy);
        Imported::Created
    }

    fn land(&mut self, now: Timestamp, task: Arc<Task>, copy: TaskCopy) {
        let head = copy.info.head;
        let open = if head.state == State::Blocked { self.open_parents(&task) } else { Vec::new() };
        let (state, run_at) = match head.state {
            State::Blocked if open.is_empty() => {
                let starts = task.starts_at(head.created);
                if starts > now { (State::Scheduled, Some(starts)) } else { (State::Ready, None) }
            }
            State::Scheduled => (State::Scheduled, head.run_at),
            state => (state, None),
        };
        self.last_seq += 1;
        let seq = self.last_seq;
        let lane = self.lanes.obtain(&task.lane);
        let ended = state.is_terminal();
        let ix = self.admit(Slot {
            id: task.id,
            place: place(task.priority, seq),
            keyed: task.unique.is_some(),
            lane,
            state,
            seq,
            attempt: head.attempt,
            crashes: head.crashes,
            unmet: u32::try_from(open.len()).unwrap_or(u32::MAX),
            token: Token { fence: head.fence, nonce: 0 },
            session: None,
            committed: false,
            cancel_requested: head.cancel_requested,
            created: head.created,
            run_at,
            expires: copy.expires,
            started: head.started,
            finished: head.finished.filter(|_| ended).or(ended.then_some(now)),
            error: head.error.filter(|_| !ended).map(Box::new),
            result: ended.then(|| Arc::new(head.result.unwrap_or_default())),
            task,
        });
        if copy.holds_key {
            self.keys.take(ix, &self.slots[ix], now);
            self.keys.settle(ix, &self.slots[ix]);
        }
        for parent in open {
            self.edges.add(parent, ix, seq);
        }
    }

    /// What of its parents is there and has not ended, each once.
    fn open_parents(&self, task: &Task) -> Vec<Ix> {
        let parents = task.after.iter().filter_map(|id| self.ids.get(id).copied());
        let mut open: Vec<Ix> = parents.filter(|ix| !self.slots[*ix].state.is_terminal()).collect();
        open.sort_unstable();
        open.dedup();
        open
    }
}
