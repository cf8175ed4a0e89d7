//! Rules: pure functions of what is stored, the instant and a roll.

mod retry;
mod unique;

pub use retry::{Backoff, Decision, Retry, Wish};
pub use unique::{Scope, Unique};
