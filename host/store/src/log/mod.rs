//! What backends share that keep a log of commands and let [`Core`](crate::core::Core) work it off: how commands and the
//! image of the state machine are written down, and how a command is applied.
//!
//! A log holds commands, never their outcomes: the state machine is deterministic, so whoever applies the same commands at
//! the same instants in the same order has the same store. Where the log is, who may append to it and what makes it
//! durable is the backend's.

mod answer;
mod command;
#[cfg(feature = "object")]
mod engine;
#[cfg(feature = "object")]
mod entry;
pub mod outside;
#[cfg(feature = "object")]
mod query;
mod reply;
pub mod wire;

pub use answer::Answer;
pub use command::Command;
#[cfg(all(test, feature = "object"))]
pub(crate) use engine::tests::Nowhere;
#[cfg(feature = "object")]
pub use engine::{Engine, Fault, Gate, Journal, Keep, Limits, Signals};
#[cfg(feature = "object")]
pub use entry::{Entry, State};
#[cfg(feature = "object")]
pub use query::Query;
