//! When a failed attempt runs again. Pure functions only: the worker brings the attempt and the roll, so a test replays
//! a year of retries in a millisecond.

use std::time::Duration;

use crate::error::Kind;
use crate::record::record;
use crate::time::Span;

record! {
    /// How long to wait before the next attempt.
    pub struct Backoff {
        /// Before the second attempt; doubles with each one after.
        1 => base: Span,
        /// The most.
        2 => max: Span,
    }
}

impl Default for Backoff {
    /// 1 s, 2 s, 4 s, … up to 5 minutes, before jitter.
    fn default() -> Self {
        Self { base: Span::from_secs(1), max: Span::from_secs(300), unknown: Default::default() }
    }
}

impl Backoff {
    /// Delay before the attempt that follows the failed `attempt` (counted from 1).
    ///
    /// `roll` is uniform in `0.0..1.0`; the same roll always gives the same delay.
    pub fn delay(&self, attempt: u32, roll: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.base.get().saturating_mul(1 << doublings).min(self.max.get());
        // Full jitter: after an outage it spreads the herd over the whole window, not its top half.
        ceiling.mul_f64(roll.clamp(0.0, 1.0))
    }
}

record! {
    /// How often a task is tried.
    pub struct Retry {
        /// Attempts in all, the first included; at least 1.
        1 => attempts: u32,
        /// Times its worker may die under it before it counts as the task's doing. A budget of its own: an innocent
        /// task survives a bad machine, a task that kills its worker does not do so forever.
        2 => crashes: u32,
        /// How long to wait in between.
        3 => backoff: Backoff = default,
    }
}

impl Default for Retry {
    /// Three attempts, three crashes.
    fn default() -> Self {
        Self { attempts: 3, crashes: 3, backoff: Backoff::default(), unknown: Default::default() }
    }
}

/// What to do after an attempt that gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run it again after this long; the attempt counts.
    Retry(Duration),
    /// Put it back; the attempt does not count.
    Release(Duration),
    /// It has failed for good.
    Fail,
    /// It was called off.
    Cancel,
}

/// What the guest asked for by its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Nothing: the policy decides.
    #[default]
    None,
    /// Another attempt, and perhaps when.
    Retry(Option<Duration>),
    /// No further attempt.
    Fail,
    /// Another go later that costs no attempt.
    Snooze(Duration),
}

impl Retry {
    /// What follows when the given `attempt` (counted from 1) ended with `kind`: the table of outcome classes.
    ///
    /// A limit is not retried, since the next attempt would do the same; a full pool, a missing module or a broken host
    /// is not the task's doing and costs no attempt.
    pub fn after(&self, kind: Kind, wish: Wish, attempt: u32, roll: f64) -> Decision {
        let again = |delay: Option<Duration>| {
            if attempt < self.attempts {
                Decision::Retry(delay.unwrap_or_else(|| self.backoff.delay(attempt, roll)))
            } else {
                Decision::Fail
            }
        };
        match (kind, wish) {
            (Kind::Cancelled, _) => Decision::Cancel,
            (_, Wish::Fail) => Decision::Fail,
            (_, Wish::Snooze(delay)) => Decision::Release(delay),
            (_, Wish::Retry(delay)) => again(delay),
            (Kind::NoCapacity, _) => {
                Decision::Release(Duration::from_millis(200).mul_f64(roll.clamp(0.1, 1.0)))
            }
            (Kind::ErrResult | Kind::Exit | Kind::Trap | Kind::Timeout | Kind::Host, _) => {
                again(None)
            }
            _ => Decision::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn the_delay_doubles_up_to_its_ceiling() {
        let backoff = Backoff::default();
        for (attempt, ceiling) in
            [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (u32::MAX, 300.0)]
        {
            assert_eq!(backoff.delay(attempt, 1.0), seconds(ceiling), "attempt {attempt}");
            assert_eq!(backoff.delay(attempt, 0.5), seconds(ceiling / 2.0), "attempt {attempt}");
            assert_eq!(backoff.delay(attempt, 0.0), Duration::ZERO);
        }
    }

    #[test]
    fn each_class_of_outcome_has_its_own_way() {
        let retry = Retry::default();
        let again = |base: f64| Decision::Retry(seconds(base));
        for (kind, wish, attempt, expected) in [
            (Kind::ErrResult, Wish::None, 1, again(1.0)),
            (Kind::ErrResult, Wish::None, 2, again(2.0)),
            (Kind::ErrResult, Wish::None, 3, Decision::Fail),
            (Kind::ErrResult, Wish::Fail, 1, Decision::Fail),
            (Kind::ErrResult, Wish::Retry(Some(seconds(9.0))), 1, again(9.0)),
            (Kind::ErrResult, Wish::Retry(Some(seconds(9.0))), 3, Decision::Fail),
            (Kind::ErrResult, Wish::Snooze(seconds(9.0)), 3, Decision::Release(seconds(9.0))),
            (Kind::Trap, Wish::None, 1, again(1.0)),
            (Kind::Timeout, Wish::None, 1, again(1.0)),
            (Kind::Fuel, Wish::None, 1, Decision::Fail),
            (Kind::Memory, Wish::None, 1, Decision::Fail),
            (Kind::ArgsMismatch, Wish::None, 1, Decision::Fail),
            (Kind::NoCapacity, Wish::None, 3, Decision::Release(seconds(0.2))),
            (Kind::Cancelled, Wish::None, 1, Decision::Cancel),
        ] {
            assert_eq!(
                retry.after(kind, wish, attempt, 1.0),
                expected,
                "{kind} {wish:?} {attempt}"
            );
        }
    }
}
