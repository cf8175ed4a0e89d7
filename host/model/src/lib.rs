//! The words of OmniQ: what every other crate names things with.
//!
//! Pure data and rules. No I/O, no clock, no randomness, no engine and no store, so that anything here can be tested
//! by calling it and used by any process, also one that never runs a task.

pub mod digest;
pub mod error;
pub mod event;
pub mod id;
pub mod module;
pub mod payload;
pub mod policy;
pub mod record;
pub mod result;
pub mod schedule;
pub mod state;
pub mod task;
pub mod time;
pub mod wit;

pub use digest::Digest;
pub use error::Kind;
pub use event::{EventKind, TaskEvent};
pub use id::{Name, SessionId, TaskId, Token};
pub use module::{Module, ModuleFunction};
pub use payload::{Format, Payload};
pub use policy::{Backoff, Decision, Retry, Scope, Unique, Wish};
pub use record::DecodeError;
pub use result::{Stored, TaskError, TaskResult, TaskUsage, Value};
pub use schedule::{Missed, Schedule, Timing};
pub use state::{Phase, State};
pub use task::{
    CommandInput, Head, Lane, ModuleRef, OnParentFailure, Pool, Priority, Task, TaskLimits,
};
pub use time::{Span, Timestamp};
