//! What the state machine must do: one file per part of the contract, laws over random calls, and what always holds of
//! its indices.

mod claim;
mod control;
mod enqueue;
mod finish;
#[cfg(any(feature = "nats", feature = "object"))]
mod image;
mod invariant;
mod law;
mod parents;
mod schedule;
mod session;
mod time;
mod unique;

use std::time::Duration;

use omniq_model::{
    Digest, Head, Kind, Lane, ModuleRef, Payload, SessionId, State, Task, TaskError, TaskId,
    TaskResult, Timestamp, Token,
};

use super::Core;
use crate::{End, Enqueued, Filter, Finished, How, Lease, Moved, Select, Session, Want};

pub(super) const LEASE: Duration = Duration::from_secs(30);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A state machine, an instant, and short words for what tests do. The indices are checked after every call.
#[derive(Debug)]
pub(super) struct Kit {
    pub core: Core,
    pub now: Timestamp,
    made: u64,
    calls: u32,
}

pub(super) fn id(name: &str) -> TaskId {
    TaskId::derived(&[name.as_bytes()])
}

pub(super) fn lane(queue: &str) -> Lane {
    Lane { queue: queue.parse().unwrap(), ..Lane::default() }
}

/// A task whose id follows from its name.
pub(super) fn task(name: &str) -> Task {
    let module = ModuleRef {
        digest: Digest::from_sha256([7; 32]),
        name: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        unknown: Default::default(),
    };
    Task::new(id(name), module, "f", Payload::cbor([0xa0]))
}

pub(super) fn with(name: &str, change: impl FnOnce(&mut Task)) -> Task {
    let mut task = task(name);
    change(&mut task);
    task
}

pub(super) fn ids(names: &[&str]) -> Vec<TaskId> {
    names.iter().map(|name| id(name)).collect()
}

pub(super) fn error() -> TaskError {
    TaskError::new(Kind::Trap, "it trapped")
}

pub(super) fn succeeded() -> How {
    How::Succeeded(TaskResult::success(Payload::cbor([1])).into())
}

pub(super) fn failed() -> How {
    How::Failed(TaskResult::failure(error()).into())
}

pub(super) fn cancelled() -> How {
    How::Cancelled(TaskResult::failure(TaskError::new(Kind::Cancelled, "stopped")).into())
}

pub(super) fn retry(after: Duration) -> How {
    How::Retry { after, error: error() }
}

pub(super) fn release(after: Duration) -> How {
    How::Release { after, error: None }
}

/// A selection of these tasks.
pub(super) fn these(names: &[&str]) -> Select {
    Select { filter: Filter { ids: ids(names), ..Filter::default() }, max: usize::MAX }
}

impl Kit {
    pub(super) fn new() -> Self {
        Self { core: Core::new(), now: Timestamp::from_millis(1_000_000), made: 0, calls: 0 }
    }

    /// A kit that holds these tasks.
    pub(super) fn of(tasks: Vec<Task>) -> Self {
        let mut kit = Self::new();
        let count = tasks.len();
        assert_eq!(kit.enqueue(tasks), vec![Enqueued::Created; count]);
        kit
    }

    /// One call, after which the indices must be in step.
    pub(super) fn call<T>(&mut self, call: impl FnOnce(&mut Core, Timestamp) -> T) -> T {
        let answer = call(&mut self.core, self.now);
        self.core.check();
        self.calls += 1;
        #[cfg(any(feature = "nats", feature = "object"))]
        if self.calls.is_multiple_of(7) {
            self.through_an_image(); // an image of everything takes longer than most calls
        }
        answer
    }

    /// Goes on from an image of all there is: nobody may notice.
    #[cfg(any(feature = "nats", feature = "object"))]
    fn through_an_image(&mut self) {
        use crate::log::wire::{In, Out};
        let image = |core: &Core| {
            let mut out = Out::default();
            core.image().write(&mut out);
            out.into_bytes()
        };
        let bytes = image(&self.core);
        let mut input = In::new(&bytes);
        let mut restored = Core::restore(&mut input).expect("an image can be read");
        input.end().expect("all of it was read");
        restored.check();
        assert!(image(&restored) == bytes, "an image of the same is the same");
        restored.changed = self.core.changed;
        self.core = restored;
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    pub(super) fn enqueue(&mut self, tasks: Vec<Task>) -> Vec<Enqueued> {
        self.call(|core, now| core.enqueue(now, tasks))
    }

    pub(super) fn session(&mut self) -> Session {
        self.made += 1;
        let id = SessionId::new(self.made);
        self.call(|core, now| core.open_session(now, id, LEASE))
    }

    pub(super) fn claim(&mut self, session: &Session, max: usize) -> Vec<Lease> {
        self.claim_from(session, Lane::default(), max)
    }

    pub(super) fn claim_from(&mut self, session: &Session, lane: Lane, max: usize) -> Vec<Lease> {
        self.made += 1;
        let want = Want::new(lane, max, self.made);
        self.call(|core, now| core.claim(now, session, &[want]))
    }

    /// The only task that is ready.
    pub(super) fn claim_one(&mut self, session: &Session) -> Lease {
        let mut leases = self.claim(session, 2);
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases.remove(0)
    }

    pub(super) fn finish(&mut self, lease: &Lease, how: How) -> Finished {
        self.finish_as(lease.id, lease.token, how)
    }

    pub(super) fn finish_as(&mut self, id: TaskId, token: Token, how: How) -> Finished {
        self.call(|core, now| core.finish(now, vec![End { id, token, how }]))[0]
    }

    pub(super) fn head(&self, name: &str) -> Head {
        self.core.get(&[id(name)]).remove(0).expect("the task exists").head
    }

    pub(super) fn state(&self, name: &str) -> State {
        self.head(name).state
    }

    /// The kind of error a task ended with.
    pub(super) fn kind(&self, name: &str) -> Option<Kind> {
        self.head(name).result?.error?.kind()
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.core.get(&[id(name)])[0].is_some()
    }
}

pub(super) fn claimed(leases: &[Lease]) -> Vec<TaskId> {
    leases.iter().map(|lease| lease.id).collect()
}

pub(super) fn moves(moved: &[Moved]) -> Vec<(TaskId, State, State)> {
    moved.iter().map(|moved| (moved.id, moved.from, moved.to)).collect()
}
