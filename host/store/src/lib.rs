//! Where OmniQ keeps tasks, results, events and modules: the promises as [traits], the state machine that defines them,
//! and every backend, one folder and one cargo feature each.
//!
//! The task's record is the only commit point. A result is staged first under task and claim, the record's
//! compare-and-swap on the token commits it, events follow and are repaired from the record. So any mix of task, result
//! and event stores is safe.

pub mod clock;
pub mod copy;
pub mod core;
mod error;
pub mod failpoint;
pub mod floor;
pub mod guard;
#[cfg(any(feature = "object", feature = "sqlite"))]
mod hex;
#[cfg(any(feature = "nats", feature = "object"))]
pub mod log;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "object")]
pub mod object;
mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
mod tls;
pub mod traits;
pub mod watch;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{BoxError, Error, ErrorKind, Result, chain};
pub use open::{Durability, Options, open_events, open_modules, open_results, open_tasks};
#[cfg(any(feature = "nats", feature = "redis"))]
pub use tls::TlsFiles;
pub use traits::*;
