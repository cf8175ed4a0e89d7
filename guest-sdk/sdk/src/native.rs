//! What stands in for the host outside of a component, so that the functions of a task can be tested like any other.

use std::time::SystemTime;

use crate::context::Context;
use crate::log::Level;

/// Asks the host inside a component, and calls `stand_in` anywhere else.
pub(crate) fn or<T>(stand_in: impl FnOnce() -> T, host: impl FnOnce() -> T) -> T {
    if cfg!(target_family = "wasm") { host() } else { stand_in() }
}

pub(crate) fn context() -> Context {
    Context {
        id: "00000000-0000-7000-8000-000000000000".to_owned(),
        target: "test".to_owned(),
        attempt: 1,
        max_attempts: 1,
        enqueued_at: SystemTime::UNIX_EPOCH,
        deadline: None,
        idempotency_key: "00000000-0000-7000-8000-000000000000".to_owned(),
        traceparent: None,
    }
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    eprintln!("{level:?}: {message}{fields}");
}
