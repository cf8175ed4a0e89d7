//! What has changed: counted for those who wait, at the price of one look for all of them.
//!
//! How a backend learns of changes that other processes make is its own; it counts them here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::{Changes, Interest};

/// Counts of changes, and who waits for them.
#[derive(Debug, Default)]
pub struct Watch {
    work: watch::Sender<u64>,
    ends: watch::Sender<u64>,
    waiting: AtomicUsize,
    /// Wakes whoever looks for the changes of others: somebody has begun to wait.
    pub begun: Notify,
}

impl Watch {
    fn sender(&self, interest: Interest) -> &watch::Sender<u64> {
        match interest {
            Interest::Work => &self.work,
            Interest::Ends => &self.ends,
        }
    }

    /// Something changed, here or elsewhere.
    pub fn bump(&self, interest: Interest) {
        self.sender(interest).send_modify(|count| *count += 1);
    }

    /// The same for both kinds of change.
    pub fn bump_all(&self) {
        self.bump(Interest::Work);
        self.bump(Interest::Ends);
    }

    /// How much has changed so far.
    pub fn now(&self, interest: Interest) -> Changes {
        Changes(*self.sender(interest).borrow())
    }

    /// Whether anybody waits.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until the count is above `seen`, or the time is over.
    pub async fn changed(&self, interest: Interest, seen: Changes, timeout: Duration) -> Changes {
        let mut receiver = self.sender(interest).subscribe();
        let _waiting = Waiting::begin(self);
        // Its sender lives as long as we do, so that the wait ends by a change or by the clock.
        let _ = tokio::time::timeout(timeout, receiver.wait_for(|count| *count > seen.0)).await;
        let count = *receiver.borrow();
        Changes(count)
    }
}

/// One who waits; stops when dropped.
struct Waiting<'a>(&'a Watch);

impl<'a> Waiting<'a> {
    fn begin(watch: &'a Watch) -> Self {
        if watch.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            watch.begun.notify_one();
        }
        Self(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
