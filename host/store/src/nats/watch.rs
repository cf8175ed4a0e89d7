//! What has changed: counted for those who wait. The log pushes, so nobody ever asks.

use std::time::Duration;

use tokio::sync::watch;

use crate::{Changes, Interest};

/// Counts of changes.
#[derive(Debug, Default)]
pub(super) struct Watch {
    work: watch::Sender<u64>,
    ends: watch::Sender<u64>,
}

impl Watch {
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

    /// Waits until the count is above `seen`, or the time is over.
    pub(super) async fn changed(
        &self,
        interest: Interest,
        seen: Changes,
        timeout: Duration,
    ) -> Changes {
        let mut receiver = self.sender(interest).subscribe();
        // Its sender lives as long as we do, so that the wait ends by a change or by the clock.
        let _ = tokio::time::timeout(timeout, receiver.wait_for(|count| *count > seen.0)).await;
        let count = *receiver.borrow();
        Changes(count)
    }
}
