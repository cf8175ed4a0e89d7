//! How tasks come in.

use std::sync::Arc;

use omniq_model::{OnParentFailure, State, Task, TaskId, Timestamp, Token};

use super::Core;
use super::index::parent_failed;
use super::slot::{Ix, Slot, place};
use crate::{Enqueued, Refusal};

/// What a new task waits for.
#[derive(Default)]
struct Parents {
    /// Those that have not ended, each once.
    open: Vec<Ix>,
    /// The first that has ended otherwise than by success.
    failed: Option<(TaskId, State)>,
}

impl Core {
    /// See [`TaskStore::enqueue`](crate::TaskStore::enqueue).
    pub fn enqueue(&mut self, now: Timestamp, tasks: Vec<Task>) -> Vec<Enqueued> {
        tasks.into_iter().map(|task| self.enqueue_one(now, task)).collect()
    }

    fn enqueue_one(&mut self, now: Timestamp, task: Task) -> Enqueued {
        if let Some(ix) = self.ids.get(&task.id) {
            let slot = &self.slots[*ix];
            let same = *slot.task == task || slot.task.encode() == task.encode(); // NaN is not itself
            let duplicate = Enqueued::Duplicate { id: task.id, state: slot.state };
            return if same { duplicate } else { Enqueued::Conflict };
        }
        if let Some(ix) = self.keys.holder(&task, now) {
            let slot = &self.slots[ix];
            return Enqueued::Duplicate { id: slot.id, state: slot.state };
        }
        match self.parents(&task) {
            Ok(parents) => {
                self.create(now, task, parents);
                Enqueued::Created
            }
            Err(unknown) => Enqueued::Refused(Refusal::UnknownParent(unknown)),
        }
    }

    fn parents(&self, task: &Task) -> Result<Parents, TaskId> {
        let mut parents = Parents::default();
        for id in &task.after {
            let ix = *self.ids.get(id).ok_or(*id)?;
            let state = self.slots[ix].state;
            if !state.is_terminal() {
                parents.open.push(ix);
            } else if state != State::Succeeded && parents.failed.is_none() {
                parents.failed = Some((*id, state));
            }
        }
        parents.open.sort_unstable();
        parents.open.dedup();
        Ok(parents)
    }

    fn create(&mut self, now: Timestamp, task: Task, parents: Parents) {
        let failed = parents.failed.filter(|_| task.on_parent_failure != OnParentFailure::Run);
        let starts = task.starts_at(now);
        let (state, run_at) = match () {
            () if failed.is_some() || !parents.open.is_empty() => (State::Blocked, None),
            () if starts > now => (State::Scheduled, Some(starts)),
            () => (State::Ready, None),
        };
        self.last_seq += 1;
        let seq = self.last_seq;
        let lane = self.lanes.obtain(&task.lane);
        let ix = self.admit(Slot {
            id: task.id,
            place: place(task.priority, seq),
            keyed: task.unique.is_some(),
            lane,
            state,
            seq,
            attempt: 0,
            crashes: 0,
            unmet: u32::try_from(parents.open.len()).unwrap_or(u32::MAX),
            token: Token { fence: 0, nonce: 0 },
            session: None,
            committed: false,
            cancel_requested: false,
            created: now,
            run_at,
            expires: task.expires_at(now),
            started: None,
            finished: None,
            error: None,
            result: None,
            task: Arc::new(task),
        });
        self.keys.take(ix, &self.slots[ix], now);
        for parent in parents.open {
            self.edges.add(parent, ix, seq);
        }
        if let Some((parent, state)) = failed {
            self.end_without(now, ix, State::Cancelled, parent_failed(parent, state));
        }
    }
}
