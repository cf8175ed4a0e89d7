//! The only place where a task's state changes, and where the indices follow it.

use std::sync::Arc;

use omniq_model::{Kind, OnParentFailure, State, TaskError, TaskResult, Timestamp};

use super::Core;
use super::slot::{Ix, Slot};

impl Core {
    /// Takes a new task in, in the state it is in.
    pub(super) fn admit(&mut self, slot: Slot) -> Ix {
        let id = slot.id;
        let ix = self.slots.insert(slot);
        self.ids.insert(id, ix);
        self.link(ix);
        ix
    }

    /// Moves a task on to `next`, with what else changes by it: the only way a state changes.
    pub(super) fn enter(&mut self, ix: Ix, next: State, change: impl FnOnce(&mut Slot)) {
        self.unlink(ix);
        let slot = &mut self.slots[ix];
        debug_assert!(slot.state.may_become(next), "{} may not become {next}", slot.state);
        change(slot);
        slot.state = next;
        if slot.keyed {
            self.keys.settle(ix, slot);
        }
        self.link(ix);
    }

    /// Ends a task, and settles what waited for it.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        ix: Ix,
        next: State,
        result: Arc<TaskResult>,
        change: impl FnOnce(&mut Slot),
    ) {
        self.enter(ix, next, |slot| {
            change(slot);
            slot.session = None;
            slot.run_at = None;
            slot.finished = Some(now);
            slot.error = None;
            slot.result = Some(result);
        });
        self.settle(now, ix);
    }

    /// Ends a task that gave no result, for that reason.
    pub(super) fn end_without(&mut self, now: Timestamp, ix: Ix, next: State, error: TaskError) {
        self.end(now, ix, next, TaskResult::failure(error).into(), |_| {});
    }

    /// Lets go what waited for an ended task, or cancels it; a chain of any length without recursion.
    fn settle(&mut self, now: Timestamp, ended: Ix) {
        let mut open = Vec::new();
        let mut next = Some(ended);
        while let Some(parent) = next {
            let succeeded = self.slots[parent].state == State::Succeeded;
            for child in self.edges.take(parent) {
                let slot = &mut self.slots[child];
                slot.unmet -= 1;
                let unmet = slot.unmet;
                let runs = succeeded || slot.task.on_parent_failure == OnParentFailure::Run;
                if !runs {
                    self.cancel_child(now, child, parent);
                    open.push(child);
                } else if unmet == 0 {
                    self.unblock(now, child);
                }
            }
            next = open.pop();
        }
    }

    fn cancel_child(&mut self, now: Timestamp, child: Ix, parent: Ix) {
        let parent = &self.slots[parent];
        let error = parent_failed(parent.id, parent.state);
        self.enter(child, State::Cancelled, |slot| {
            slot.finished = Some(now);
            slot.result = Some(Arc::new(TaskResult::failure(error)));
        });
    }

    fn unblock(&mut self, now: Timestamp, child: Ix) {
        let slot = &self.slots[child];
        let at = slot.task.starts_at(slot.created);
        self.wait_until(now, child, at, |_| {});
    }

    /// Makes a task wait until `at`, or ready when that has come.
    pub(super) fn wait_until(
        &mut self,
        now: Timestamp,
        ix: Ix,
        at: Timestamp,
        change: impl FnOnce(&mut Slot),
    ) {
        let (next, run_at) =
            if at <= now { (State::Ready, None) } else { (State::Scheduled, Some(at)) };
        self.enter(ix, next, |slot| {
            change(slot);
            slot.session = None;
            slot.run_at = run_at;
        });
    }

    /// Forgets an ended task.
    pub(super) fn forget(&mut self, ix: Ix) {
        self.unlink(ix);
        let Some(slot) = self.slots.remove(ix) else { return };
        #[cfg(any(feature = "nats", feature = "object"))]
        self.drop_values(&slot);
        self.ids.remove(&slot.id);
        self.keys.free(ix, &slot.task);
        self.lanes.tidy(slot.lane);
    }

    fn link(&mut self, ix: Ix) {
        let slot = &self.slots[ix];
        let seq = slot.seq;
        self.by_state[usize::from(slot.state.number())].insert(seq, ix);
        self.lanes.link(ix, slot);
        if let Some(expires) = slot.expires_now() {
            self.expiry.insert((expires, seq), ix);
        }
        match slot.state {
            State::Scheduled => {
                self.due.extend(slot.run_at.map(|at| ((at, seq), ix)));
                self.changed.work = true;
            }
            State::Ready => self.changed.work = true,
            State::Running => self.sessions.hold(ix, slot),
            state if state.is_terminal() => {
                self.ended.extend(slot.finished.map(|at| ((at, slot.id), ix)));
                self.kept.extend(slot.kept_until().map(|until| ((until, seq), ix)));
                self.changed.ends = true;
            }
            _ => {}
        }
    }

    fn unlink(&mut self, ix: Ix) {
        let slot = &self.slots[ix];
        let seq = slot.seq;
        self.by_state[usize::from(slot.state.number())].remove(&seq);
        self.lanes.unlink(slot);
        if let Some(expires) = slot.expires_now() {
            self.expiry.remove(&(expires, seq));
        }
        match slot.state {
            State::Blocked => {
                for parent in slot.task.after.iter().filter_map(|id| self.ids.get(id)) {
                    self.edges.remove(*parent, seq);
                }
            }
            State::Scheduled => {
                slot.run_at.map(|at| self.due.remove(&(at, seq)));
            }
            State::Running => self.sessions.let_go(slot),
            state if state.is_terminal() => {
                slot.finished.map(|at| self.ended.remove(&(at, slot.id)));
                slot.kept_until().map(|until| self.kept.remove(&(until, seq)));
            }
            _ => {}
        }
    }
}

/// Why a child is cancelled.
pub(super) fn parent_failed(parent: omniq_model::TaskId, state: State) -> TaskError {
    TaskError::new(Kind::ParentFailed, format!("task `{parent}`, which it waited for, has {state}"))
}
