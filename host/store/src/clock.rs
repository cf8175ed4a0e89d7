//! Where a store without a server reads the time: the host's clock, or one that a test moves.
//!
//! Clocks of machines are set, and machines sleep. A store's clock makes three promises all the same: it never goes back,
//! it never stands still for long, and who uses it can tell when it leapt over time in which nobody could report.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use omniq_model::Timestamp;

/// A clock.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. Never before what it was.
    fn now(&self) -> Timestamp;

    /// How far it has leapt so far: time that it counts and in which no process ran, since the machine slept, or that never
    /// was, since its clock was set forward. It only grows.
    ///
    /// A store that judges sessions by this clock looks at it together with [`Self::now`], and when it has grown it lets
    /// the sessions that lived before the leap live on: none of them could report in the meantime.
    fn leapt(&self) -> Duration {
        Duration::ZERO
    }

    /// Others have seen this time already, such as the process that wrote a file before this one: it is not before it.
    fn at_least(&self, seen: Timestamp) {
        let _ = seen;
    }
}

/// The host's clock, one for the whole process.
///
/// When the host's clock is set back, this one goes on at half its pace until the host's has caught up: leases last
/// longer then, never shorter, and what is due still becomes due. When the host's clock is set forward, or the machine
/// slept, it leaps.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock(());

/// The process's reading of the host's clock.
static READING: Mutex<Option<Reading>> = Mutex::new(None);

impl SystemClock {
    fn read(self) -> Reading {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that it never goes back. It counts no time in which the machine sleeps.
        let now = Instant::now();
        let next = match *reading {
            None => Reading { shown: wall, at: now, leapt: Duration::ZERO },
            Some(last) => last.next(now, wall),
        };
        *reading = Some(next);
        next
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.read().timestamp()
    }

    fn leapt(&self) -> Duration {
        self.read().leapt
    }

    fn at_least(&self, seen: Timestamp) {
        /// Whoever wrote more than that had a clock that was far from right, and it is not followed.
        const MOST: Duration = Duration::from_secs(24 * 60 * 60);
        let own = self.read();
        let ahead = seen.since(own.timestamp());
        if ahead > MOST {
            tracing::warn!(
                ahead_seconds = ahead.as_secs(),
                "what is stored was written by a clock far ahead of this machine's; check both, since what was leased by \
                 it stays leased until then"
            );
        } else if !ahead.is_zero() {
            let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reading) = &mut *reading {
                reading.shown = reading.shown.max(own.shown + ahead);
            }
        }
    }
}

/// What a clock showed, and when.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Since 1970.
    shown: Duration,
    at: Instant,
    leapt: Duration,
}

impl Reading {
    /// What is no drift of the clock any more: a second, and a thousandth of the time since the last look.
    const LEAP: Duration = Duration::from_secs(1);

    /// What it shows at `now`, when the host's clock shows `wall`.
    fn next(self, now: Instant, wall: Duration) -> Self {
        let passed = now.saturating_duration_since(self.at);
        if wall < self.shown {
            return Self { shown: self.shown + passed / 2, at: now, ..self };
        }
        let ahead = wall.saturating_sub(self.shown + passed);
        let is_leap = ahead > Self::LEAP + passed / 1000;
        let leapt = if is_leap { self.leapt + ahead } else { self.leapt };
        Self { shown: wall, at: now, leapt }
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.shown.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    now: AtomicI64,
    leapt: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        let hands = Hands { now: AtomicI64::new(now.as_millis()), leapt: AtomicI64::new(0) };
        Self(Arc::new(hands))
    }

    /// Moves it on.
    pub fn advance(&self, span: Duration) {
        self.0.now.fetch_add(millis(span), Ordering::AcqRel);
    }

    /// Moves it on as a clock does that was set, or whose machine slept.
    pub fn leap(&self, span: Duration) {
        self.0.leapt.fetch_add(millis(span), Ordering::AcqRel);
        self.advance(span);
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now.load(Ordering::Acquire))
    }

    fn leapt(&self) -> Duration {
        Duration::from_millis(self.0.leapt.load(Ordering::Acquire).unsigned_abs())
    }

    fn at_least(&self, seen: Timestamp) {
        self.0.now.fetch_max(seen.as_millis(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A reading, and the time that passed and what the host's clock showed then.
    fn check(shown: Duration, passed: Duration, wall: Duration) -> (Duration, Duration) {
        let at = Instant::now();
        let reading = Reading { shown, at, leapt: Duration::ZERO }.next(at + passed, wall);
        (reading.shown, reading.leapt)
    }

    #[test]
    fn it_follows_the_host_and_tells_leaps_from_drift() {
        let (second, zero) = (Duration::from_secs(1), Duration::ZERO);
        let start = 1000 * HOUR;
        for (passed, wall, expected) in [
            (zero, start, (start, zero)),
            (second, start + second, (start + second, zero)),
            // A clock that is too fast or too slow by a little is followed.
            (HOUR, start + HOUR + 4 * second, (start + HOUR + 4 * second, zero)),
            (HOUR, start + HOUR - 9 * second, (start + HOUR - 9 * second, zero)),
            // Set forward, or asleep.
            (second, start + second + HOUR, (start + second + HOUR, HOUR)),
            (zero, start + HOUR, (start + HOUR, HOUR)),
            // Set back: on at half the pace, whatever it shows.
            (zero, start - HOUR, (start, zero)),
            (10 * second, start - HOUR, (start + 5 * second, zero)),
            (10 * second, zero, (start + 5 * second, zero)),
        ] {
            assert_eq!(check(start, passed, wall), expected, "{passed:?} {wall:?}");
        }
    }

    #[test]
    fn set_back_by_an_hour_it_is_right_again_after_two_and_never_stands_still() {
        let (step, start) = (Duration::from_millis(1), 1000 * HOUR);
        let mut at = Instant::now();
        let mut reading = Reading { shown: start, at, leapt: Duration::ZERO };
        let mut wall = start - Duration::from_secs(3);
        for _ in 0..7000 {
            (at, wall) = (at + step, wall + step);
            let next = reading.next(at, wall);
            assert!(next.shown > reading.shown || next.shown == wall, "{next:?} {reading:?}");
            reading = next;
        }
        assert_eq!((reading.shown, reading.leapt), (wall, Duration::ZERO));
    }

    #[test]
    fn the_hosts_clock_is_not_before_what_others_have_seen() {
        let clock = SystemClock::default();
        let seen = clock.now() + Duration::from_secs(60);
        clock.at_least(seen);
        assert!(clock.now() >= seen);
        let absurd = clock.now() + 48 * HOUR;
        clock.at_least(absurd);
        assert!(clock.now() < absurd);
    }
}
