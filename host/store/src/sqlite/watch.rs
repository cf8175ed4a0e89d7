//! What has changed: counted for those who wait, at the price of one look for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::{Changes, Interest};

/// Counts of changes, and who waits for them.
#[derive(Debug)]
pub(super) struct Watch {
    work: watch::Sender<u64>,
    ends: watch::Sender<u64>,
    waiting: AtomicUsize,
    /// Tells the writer that somebody has begun to wait.
    pub begun: Notify,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            work: watch::Sender::new(0),
            ends: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            begun: Notify::new(),
        }
    }

    fn sender(&self, interest: Interest) -> &watch::Sender<u64> {
        match interest {
            Interest::Work => &self.work,
            Interest::Ends => &self.ends,
        }
    }

    pub(super) fn bump(&self, interest: Interest) {
        self.sender(interest).send_modify(|count| *count += 1);
    }

    pub(super) fn now(&self, interest: Interest) -> Changes {
        Changes(*self.sender(interest).borrow())
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until the count is above `seen`, or the time is over.
    pub(super) async fn changed(
        &self,
        interest: Interest,
        seen: Changes,
        timeout: Duration,
    ) -> Changes {
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
