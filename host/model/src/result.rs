//! How a task ended: its result or its error, and what the last attempt used.

use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::id::Token;
use crate::payload::Payload;
use crate::record::record;

record! {
    /// Why an attempt gave no result.
    pub struct TaskError {
        /// The name of its [`Kind`]; text, since a newer version may have kinds this one does not know.
        1 => kind: String,
        /// For people: one sentence without its full stop.
        2 => message: String,
        /// The error value the function returned, canonical CBOR of its `result`'s error type.
        3 => value: Option<Payload> = default,
        /// The guest's calls when it trapped, innermost first.
        4 => backtrace: Vec<String> = default,
        /// What may lie behind it, and what to do next.
        5 => hint: String = default,
        /// Capabilities the guest used without having them, as `capability: target`.
        6 => denials: Vec<String> = default,
    }
}

impl TaskError {
    /// An error of that kind with nothing but a message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.name().to_owned(),
            message: message.into(),
            value: None,
            backtrace: Vec::new(),
            hint: String::new(),
            denials: Vec::new(),
            unknown: Default::default(),
        }
    }

    /// The kind, if this version knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == self.kind)
    }
}

record! {
    /// What one attempt used.
    #[derive(Default)]
    pub struct TaskUsage {
        /// Units of fuel; comparable only within one engine version.
        1 => fuel: u64 = default,
        /// The most bytes of linear memory held at once.
        2 => peak_memory: u64 = default,
        /// Wall-clock time, in microseconds.
        3 => wall_micros: u64 = default,
        /// Processor time, in microseconds.
        4 => cpu_micros: u64 = default,
        /// Calls of host functions.
        5 => host_calls: u64 = default,
        /// The engine the fuel was counted by.
        6 => engine: String = default,
    }
}

record! {
    /// Where a result's value is when it is not in the record itself.
    pub struct Stored {
        /// The claim whose attempt produced it: part of the key it was stored under.
        1 => token: Token,
        /// Its size in bytes.
        2 => size: u64,
    }
}

/// The value of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// In the record.
    #[serde(rename = "i")]
    Inline(Payload),
    /// In the result store.
    #[serde(rename = "s")]
    Stored(Stored),
}

record! {
    /// How a task ended.
    #[derive(Default)]
    pub struct TaskResult {
        /// What the function returned; for a command, what it wrote to stdout. `None` unless it succeeded.
        1 => value: Option<Value> = default,
        /// Why there is no value. `None` when it succeeded.
        2 => error: Option<TaskError> = default,
        /// What the last attempt used.
        3 => usage: TaskUsage = default,
        /// What the guest wrote to stderr, its last 8 KiB.
        4 => stderr: String = default,
    }
}

impl TaskResult {
    /// A success with a value in the record.
    pub fn success(value: Payload) -> Self {
        Self { value: Some(Value::Inline(value)), ..Self::default() }
    }

    /// A failure.
    pub fn failure(error: TaskError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{decode, encode};

    #[test]
    fn results_go_there_and_back() {
        let stored = Stored {
            token: Token { fence: 3, nonce: 9 },
            size: 70_000,
            unknown: Default::default(),
        };
        for result in [
            TaskResult::success(Payload::cbor([15])),
            TaskResult::failure(TaskError::new(Kind::Trap, "it trapped")),
            TaskResult { value: Some(Value::Stored(stored)), ..TaskResult::default() },
        ] {
            assert_eq!(decode::<TaskResult>("result", &encode(&result)).unwrap(), result);
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_kept_as_text() {
        let mut error = TaskError::new(Kind::Fuel, "used up");
        assert_eq!(error.kind(), Some(Kind::Fuel));
        error.kind = "from-the-future".into();
        assert_eq!(error.kind(), None);
        assert_eq!(decode::<TaskError>("error", &encode(&error)).unwrap().kind, "from-the-future");
    }
}
