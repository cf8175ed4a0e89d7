//! How far a task has come.

use crate::bindings::omniq::task::progress as wit;
use crate::contract::{from_wit, into_wit};
use crate::{Denial, Payload, native};

/// Says that `done` of `total` units are done; the unit is the task's own.
///
/// # Errors
/// The host refused; a task may well ignore that.
pub fn report(done: u64, total: Option<u64>, note: Option<&str>) -> Result<(), Denial> {
    native::or(|| Ok(()), || wit::report(done, total, note).map_err(Denial::from))
}

/// Says that the task is alive and, with `Some`, where a later attempt may go on from.
///
/// The host keeps the last cursor, at most 64 KiB of it. Calls closer together than a quarter of a second are allowed;
/// only the last of them is kept.
///
/// # Errors
/// The host refused, such as a cursor that is too large.
pub fn heartbeat(cursor: Option<Payload>) -> Result<(), Denial> {
    native::or(|| Ok(()), || wit::heartbeat(cursor.map(into_wit).as_ref()).map_err(Denial::from))
}

/// The cursor that the previous attempt left, or this one last set.
pub fn last_cursor() -> Option<Payload> {
    native::or(|| None, || wit::last_cursor().map(from_wit))
}
