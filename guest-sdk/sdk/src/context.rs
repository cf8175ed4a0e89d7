//! What a task may know about itself.

use std::time::{Duration, SystemTime};

use crate::native;

/// The attempt that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// The id of the task, a UUID; the same for all its attempts.
    pub id: String,
    /// The name of the function that was called, in the shortest form that is unique in its module.
    pub target: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many attempts the task may use up; 1 where nothing repeats it.
    pub max_attempts: u32,
    /// When the task was handed in.
    pub enqueued_at: SystemTime,
    /// When the attempt is stopped, if there is a limit.
    pub deadline: Option<SystemTime>,
    /// The same text for all attempts of the task: give it to services that ignore what they have already done.
    pub idempotency_key: String,
    /// The W3C trace context the task was handed in with.
    pub traceparent: Option<String>,
}

/// The attempt that is running.
pub fn get() -> Context {
    native::or(native::context, || {
        let info = crate::bindings::omniq::task::context::get();
        Context {
            id: info.id,
            target: info.target,
            attempt: info.attempt,
            max_attempts: info.max_attempts,
            enqueued_at: moment(info.enqueued_at),
            deadline: info.deadline.map(moment),
            idempotency_key: info.idempotency_key,
            traceparent: info.traceparent,
        }
    })
}

/// The value of a header that was handed in with the task; names are compared without regard to case.
pub fn header(name: &str) -> Option<String> {
    native::or(|| None, || crate::bindings::omniq::task::context::header(name))
}

/// Whether the task was asked to stop. One that does not look is stopped all the same, a little later.
pub fn cancelled() -> bool {
    native::or(|| false, crate::bindings::omniq::task::context::cancelled)
}

/// How long the attempt may still run, if there is a limit.
pub fn remaining() -> Option<Duration> {
    native::or(
        || None,
        || crate::bindings::omniq::task::context::remaining().map(Duration::from_millis),
    )
}

/// A moment that this platform cannot tell counts as the epoch: a host's slip must not stop a task.
fn moment(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(milliseconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_component_there_is_one_attempt() {
        let context = get();
        assert_eq!((context.attempt, context.max_attempts), (1, 1));
        assert_eq!((header("any"), cancelled(), remaining()), (None, false, None));
    }

    #[test]
    fn moments_count_from_the_epoch() {
        assert_eq!(moment(1500), SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        moment(u64::MAX);
    }
}
