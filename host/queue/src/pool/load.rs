//! How full a pool is, and how long its jobs take: what decides how many are fetched.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Jobs are fetched in advance only while they take no longer than this: slow ones are better left to other workers.
const QUICK: Duration = Duration::from_millis(50);

/// While all slots are taken and nothing has ended for so long, nothing is fetched in advance, whatever ended before.
const STUCK: Duration = Duration::from_secs(1);
/// How long nothing is fetched in advance after jobs waited so long that they were given back.
const SOBERED: Duration = Duration::from_secs(30);

/// How full a pool is.
#[derive(Debug)]
pub(crate) struct Load {
    slots: usize,
    opened: Instant,
    /// When a job ended last, and until when the pool is sobered: milliseconds since it was opened.
    last: AtomicU64,
    sobered: AtomicU64,
    /// Jobs it was given and that have not ended.
    held: AtomicUsize,
    running: AtomicUsize,
    /// The mean time of a job in nanoseconds, newer ones counting more; 0 before the first.
    mean: AtomicU64,
    /// When so many jobs are left that wait, more are welcome.
    low: AtomicUsize,
}

impl Load {
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            opened: Instant::now(),
            last: AtomicU64::new(0),
            sobered: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            mean: AtomicU64::new(0),
            low: AtomicUsize::new(0),
        }
    }

    /// How many jobs it can run at a time.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Jobs it was given and that have not ended.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    pub fn submitted(&self, count: usize) {
        self.held.fetch_add(count, Ordering::AcqRel);
    }

    pub fn withdrawn(&self, count: usize) {
        self.held.fetch_sub(count, Ordering::AcqRel);
    }

    pub fn began(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    /// A job ended after `took`.
    pub fn ended(&self, took: Duration) {
        self.running.fetch_sub(1, Ordering::AcqRel);
        self.held.fetch_sub(1, Ordering::AcqRel);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean.load(Ordering::Relaxed);
        // A lost update between two threads costs one sample.
        let next = if mean == 0 { took } else { mean - mean / 8 + took / 8 };
        self.mean.store(next.max(1), Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Jobs waited so long that they were given back: what ended before says little about what comes.
    pub fn sober(&self) {
        self.sobered.store(self.now() + SOBERED.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether that was lately: then no more is taken than can run at once.
    pub fn is_sober(&self) -> bool {
        self.now() < self.sobered.load(Ordering::Relaxed)
    }

    /// Whether all slots are taken by jobs that take their time.
    fn is_stuck(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        self.running() >= self.slots && self.now() - last.min(self.now()) > STUCK.as_millis() as u64
    }

    /// How many jobs may wait for a slot: what runs within [`QUICK`], at most `most`; none while nothing is known, or
    /// what is known no longer holds.
    pub fn prefetch(&self, most: usize) -> usize {
        let mean = self.mean.load(Ordering::Relaxed);
        let quick = QUICK.as_nanos() as u64;
        if mean == 0 || mean > quick || self.is_sober() || self.is_stuck() {
            return 0;
        }
        usize::try_from(quick / mean).unwrap_or(usize::MAX).saturating_mul(self.slots).min(most)
    }

    /// More jobs are welcome when so many wait.
    pub fn set_low(&self, low: usize) {
        self.low.store(low, Ordering::Relaxed);
    }

    /// Whether, with so many left that wait, the pool has just become hungry.
    pub fn is_low(&self, waiting: usize) -> bool {
        waiting == self.low.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_quick_is_fetched_in_advance() {
        let load = Load::new(2);
        assert_eq!(load.prefetch(500), 0);
        let run = |took| {
            load.submitted(1);
            load.began();
            load.ended(took);
        };
        run(Duration::from_micros(10));
        assert_eq!(load.prefetch(500), 500);
        (0..50).for_each(|_| run(Duration::from_millis(10)));
        assert!((8..=12).contains(&load.prefetch(500)), "{}", load.prefetch(500));
        (0..50).for_each(|_| run(Duration::from_secs(1)));
        assert_eq!((load.prefetch(500), load.held(), load.running()), (0, 0, 0));
    }

    #[test]
    fn nothing_is_fetched_in_advance_where_jobs_waited_too_long() {
        let load = Load::new(2);
        load.submitted(1);
        load.began();
        load.ended(Duration::from_micros(10));
        assert!(load.prefetch(500) > 0 && !load.is_sober());
        load.sober();
        assert!(load.prefetch(500) == 0 && load.is_sober());
    }
}
