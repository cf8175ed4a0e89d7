//! One attempt on its way through the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Instant;

use omniq_model::{EventKind, Task, TaskEvent, TaskId, Timestamp, Token};
use omniq_sandbox::{Call, Cancel, Command, Function, Module};
use omniq_store::Session;

use crate::event;

/// An attempt: which task, by which claim.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub id: TaskId,
    pub token: Token,
    /// The session it was claimed by.
    pub session: Session,
    /// Which attempt this is, from 1.
    pub number: u32,
    pub created: Timestamp,
    /// `None`: what is stored is no task.
    pub task: Option<Arc<Task>>,
    pub stop: Arc<Stop>,
}

impl Attempt {
    pub fn key(&self) -> (TaskId, Token) {
        (self.id, self.token)
    }

    /// An event about it.
    pub fn event(&self, kind: EventKind, at: Timestamp) -> TaskEvent {
        let event = event::event(self.id, self.token.fence, kind, at);
        event::of_attempt(event, self.number, self.session.id, self.task.as_deref())
    }
}

/// An attempt that is ready to run.
#[derive(Debug)]
pub(crate) struct Job {
    pub attempt: Attempt,
    pub program: Program,
    pub call: Call,
    /// Since when it waits for a slot.
    pub since: Instant,
}

/// What an attempt runs.
#[derive(Debug)]
pub(crate) enum Program {
    /// A function, with the arguments of its task.
    Function(Arc<Function>, Arc<Task>),
    /// A program.
    Command(Module, Command),
    /// A mistake of the host's.
    #[cfg(test)]
    Panic,
}

/// Why an attempt is to be stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Why {
    /// It is not.
    GoOn = 0,
    /// Somebody called the task off.
    CalledOff = 1,
    /// The worker shuts down: the attempt does not count.
    Shutdown = 2,
    /// The session is over: somebody else may run the task by now.
    LeaseLost = 3,
}

/// The switch that stops an attempt, with the reason; and when it began.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    why: AtomicU8,
    pub cancel: Cancel,
    /// Milliseconds; 0 before, and once somebody tells of it.
    began: AtomicI64,
}

impl Stop {
    /// It begins, of which somebody is still to tell.
    pub fn begins(&self, at: Timestamp) {
        self.began.store(at.as_millis(), Ordering::Release);
    }

    /// When it began, for the first who tells of it.
    pub fn tell_beginning(&self) -> Option<Timestamp> {
        let began = self.began.swap(0, Ordering::AcqRel);
        (began != 0).then_some(Timestamp::from_millis(began))
    }

    /// Asks the attempt to stop. The strongest reason counts: a task that was called off and whose lease is lost may
    /// be another's.
    pub fn stop(&self, why: Why) {
        self.why.fetch_max(why as u8, Ordering::AcqRel);
        self.cancel.cancel();
    }

    /// Whether the attempt is to be stopped, for whatever reason.
    pub fn is_asked(&self) -> bool {
        self.why() != Why::GoOn
    }

    pub fn why(&self) -> Why {
        match self.why.load(Ordering::Acquire) {
            0 => Why::GoOn,
            1 => Why::CalledOff,
            2 => Why::Shutdown,
            _ => Why::LeaseLost,
        }
    }
}
