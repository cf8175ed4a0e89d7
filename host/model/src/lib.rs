//! The words of OmniQ: what every other crate names things with.
//!
//! Pure data and rules. No I/O, no clock, no randomness, no engine and no store, so that anything here can be tested
//! by calling it and used by any process, also one that never runs a task.

pub mod digest;
pub mod error;
pub mod payload;
pub mod wit;

pub use digest::Digest;
pub use error::Kind;
pub use payload::{Format, Payload};
