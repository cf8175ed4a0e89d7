//! A task: one durable call, as whoever enqueued it asked for it. Immutable; what happens to it is its [`Head`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{Name, SessionId, TaskId, Token};
use crate::payload::Payload;
use crate::policy::{Retry, Unique};
use crate::record::{DecodeError, decode, encode, encoded_len, numbered, record};
use crate::result::{TaskError, TaskResult};
use crate::state::State;
use crate::time::{Span, Timestamp};

/// How urgent a task is within its lane: −9 to 9, higher first, 0 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Priority(i16);

impl Priority {
    /// The least urgent.
    pub const MIN: Self = Self(-9);
    /// The most urgent.
    pub const MAX: Self = Self(9);

    /// The priority of that number.
    ///
    /// # Errors
    /// [`PriorityError`] outside −9 to 9.
    pub const fn new(value: i16) -> Result<Self, PriorityError> {
        if value >= Self::MIN.0 && value <= Self::MAX.0 {
            Ok(Self(value))
        } else {
            Err(PriorityError(value))
        }
    }

    /// The number.
    pub const fn get(self) -> i16 {
        self.0
    }
}

/// A number that is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a priority; it goes from -9 to 9, higher first")]
pub struct PriorityError(pub i16);

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i16::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The unit of fairness, limits and pause: a tenant's queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Lane {
    /// Whose tasks.
    pub tenant: Name,
    /// Which of the tenant's queues.
    pub queue: Name,
}

numbered! {
    /// What becomes of a task when one it waits for does not succeed.
    #[derive(Default)]
    pub enum OnParentFailure {
        /// It is cancelled.
        #[default]
        Cancel = 0 "cancel",
        /// It runs all the same.
        Run = 1 "run",
    }
}

record! {
    /// Which code a task runs. The digest decides; name and version say where it came from.
    pub struct ModuleRef {
        /// The SHA-256 of the component.
        1 => digest: Digest,
        /// The name it was pushed under.
        2 => name: Name,
        /// The version it was pushed as.
        3 => version: Name,
    }
}

record! {
    /// Limits that the task sets itself; what is not set is the worker's default. A worker's ceiling is never exceeded.
    #[derive(Default)]
    pub struct TaskLimits {
        /// Units of fuel per attempt.
        1 => fuel: Option<u64> = default,
        /// Bytes of linear memory.
        2 => memory: Option<u64> = default,
        /// Wall-clock time of one attempt.
        3 => timeout: Option<Span> = default,
        /// Processor time of one attempt.
        4 => cpu: Option<Span> = default,
        /// Bytes of the result, in CBOR.
        5 => result: Option<u64> = default,
    }
}

record! {
    /// One durable call, as it was asked for.
    pub struct Task {
        /// Its id, made by whoever enqueued it.
        1 => id: TaskId,
        /// Whose it is and in which queue it waits.
        2 => lane: Lane = default,
        /// Which code it runs.
        3 => module: ModuleRef,
        /// Which of the module's functions, in full; empty for a command.
        4 => function: String = default,
        /// The arguments, checked against the function's types: CBOR by name. For a command: [`CommandInput`].
        5 => args: Payload,
        /// How urgent it is.
        6 => priority: Priority = default,
        /// Not before this instant of the store's clock.
        7 => run_at: Option<Timestamp> = default,
        /// Not before this long after it was enqueued; the later of the two counts.
        8 => delay: Span = default,
        /// It expires when it has not started this long after it was enqueued.
        9 => ttl: Option<Span> = default,
        /// What happens after an attempt that failed.
        10 => retry: Retry = default,
        /// What the task itself asks its sandbox to be limited to.
        11 => limits: TaskLimits = default,
        /// How long the result and the record are kept after the end.
        12 => result_ttl: Span = default,
        /// At most one live task of the tenant has this key.
        13 => unique: Option<Unique> = default,
        /// Tasks that must have ended before this one starts.
        14 => after: Vec<TaskId> = default,
        /// What becomes of it when one of those does not succeed.
        15 => on_parent_failure: OnParentFailure = default,
        /// Words for people and filters.
        16 => labels: BTreeMap<String, String> = default,
        /// Which pool runs it; `None`: the worker's default.
        17 => pool: Option<Pool> = default,
    }
}

numbered! {
    /// What kind of pool runs a task.
    pub enum Pool {
        /// Tokio tasks: for guests that mostly wait.
        Async = 0 "async",
        /// Operating system threads: for guests that compute.
        Thread = 1 "thread",
        /// Child processes: a second wall around hostile guests.
        Process = 2 "process",
        /// Very many guests that mostly sleep.
        Green = 3 "green",
    }
}

record! {
    /// What a command gets: the arguments of a task whose function is empty.
    #[derive(Default)]
    pub struct CommandInput {
        /// Its arguments, without the program's name.
        1 => args: Vec<String> = default,
        /// Its standard input.
        2 => stdin: serde_bytes::ByteBuf = default,
    }
}

impl Task {
    /// A task with nothing but what it must have; everything else has its default.
    pub fn new(id: TaskId, module: ModuleRef, function: impl Into<String>, args: Payload) -> Self {
        Self {
            id,
            lane: Lane::default(),
            module,
            function: function.into(),
            args,
            priority: Priority::default(),
            run_at: None,
            delay: Span::ZERO,
            ttl: None,
            retry: Retry::default(),
            limits: TaskLimits::default(),
            result_ttl: Self::RESULT_TTL,
            unique: None,
            after: Vec::new(),
            on_parent_failure: OnParentFailure::default(),
            labels: BTreeMap::new(),
            pool: None,
            unknown: BTreeMap::new(),
        }
    }

    /// How long a result is kept unless the task says otherwise: a day.
    pub const RESULT_TTL: Span = Span::from_secs(24 * 60 * 60);

    /// The stored form. The same task always gives the same bytes, so they tell a repeated enqueue from a conflict.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// How many bytes the stored form has, without making it.
    pub fn encoded_len(&self) -> usize {
        encoded_len(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no task.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode("task", bytes)
    }

    /// When it may start first, given the instant it was enqueued.
    pub fn starts_at(&self, enqueued: Timestamp) -> Timestamp {
        let delayed = enqueued + self.delay.get();
        self.run_at.map_or(delayed, |at| at.max(delayed))
    }

    /// When it expires unless it has started, given the instant it was enqueued.
    pub fn expires_at(&self, enqueued: Timestamp) -> Option<Timestamp> {
        self.ttl.map(|ttl| enqueued + ttl.get())
    }
}

/// What has happened to a task: the mutable half of its record, which only a store changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Where it stands.
    pub state: State,
    /// Its place in the order of arrival; unique within a store, and what lists are ordered by.
    pub seq: u64,
    /// Attempts that count against the budget, the running one included.
    pub attempt: u32,
    /// Times its lease was lost because its worker died; a budget of its own.
    pub crashes: u32,
    /// The fence of its latest claim; 0 when it was never claimed.
    pub fence: u64,
    /// Who holds it and by which claim, while it runs.
    pub lease: Option<(SessionId, Token)>,
    /// Somebody wants the running attempt stopped.
    pub cancel_requested: bool,
    /// When it arrived, by the store's clock.
    pub created: Timestamp,
    /// While it waits for a time: until when.
    pub run_at: Option<Timestamp>,
    /// When its latest attempt was claimed.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Why its latest attempt gave no result; at the end the same as the result's error.
    pub error: Option<TaskError>,
    /// How it ended, once it has.
    pub result: Option<TaskResult>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_there_and_back_and_is_small() {
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "add".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            unknown: BTreeMap::new(),
        };
        let id = TaskId::new(Timestamp::from_millis(1), [3; 10]);
        let mut task = Task::new(id, module, "add", Payload::cbor([0xa0]));
        let bytes = task.encode();
        assert!(bytes.len() < 128, "{}", bytes.len());
        assert_eq!(task.encoded_len(), bytes.len());
        assert_eq!(Task::decode(&bytes).unwrap(), task);
        task.after = vec![id];
        task.labels.insert("customer".into(), "acme".into());
        task.run_at = Some(Timestamp::from_millis(5));
        assert_eq!(Task::decode(&task.encode()).unwrap(), task);
    }

    #[test]
    fn bytes_that_are_no_task_are_an_error() {
        for bytes in [&b""[..], b"\x00", b"\xa0", b"\xbf", b"\xa1\x01", &[0x9f; 4096]] {
            assert!(Task::decode(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_later_of_delay_and_instant_counts() {
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: Name::default(),
            version: Name::default(),
            unknown: BTreeMap::new(),
        };
        let at = Timestamp::from_millis;
        let mut task = Task::new(TaskId::derived(&[b"t"]), module, "f", Payload::cbor([0xa0]));
        for (delay, run_at, expected) in
            [(0, None, 100), (5, None, 105), (5, Some(90), 105), (5, Some(200), 200)]
        {
            task.delay = Span::from_millis(delay);
            task.run_at = run_at.map(at);
            assert_eq!(task.starts_at(at(100)), at(expected));
        }
    }
}
