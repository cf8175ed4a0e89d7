//! What has changed: counted for those who wait, told to other processes, and heard from them.
//!
//! A process tells others after its commits, on a connection of its own and at most once in a while, never inside a
//! transaction that enqueues: those would commit one after the other. Who listens has one connection for that. Whatever is
//! lost on the way is found by looking now and then.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Interest;

/// What is lost on the way is found after this long.
const NET: Duration = Duration::from_secs(2);
/// Without a connection that listens: how often it is looked after something happened, and how seldom at last.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);

/// Counts of changes, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Watch {
    counts: crate::watch::Watch,
    /// Whether others' changes are heard at once.
    listens: AtomicBool,
    /// What others are still to be told.
    untold: [AtomicBool; 2],
    /// Wakes who tells them.
    pub tell: Notify,
}

impl Deref for Watch {
    type Target = crate::watch::Watch;

    fn deref(&self) -> &Self::Target {
        &self.counts
    }
}

impl Watch {
    /// This process has committed something: others are told as well.
    pub(super) fn committed(&self, work: bool, ends: bool) {
        for (changed, interest, untold) in
            [(work, Interest::Work, &self.untold[0]), (ends, Interest::Ends, &self.untold[1])]
        {
            if changed {
                self.bump(interest);
                untold.store(true, Ordering::Release);
                self.tell.notify_one();
            }
        }
    }

    /// Takes what others are still to be told: `w` for work, `e` for ends.
    pub(super) fn take_untold(&self) -> Option<&'static str> {
        let [work, ends] =
            [0, 1].map(|index: usize| self.untold[index].swap(false, Ordering::AcqRel));
        match (work, ends) {
            (true, true) => Some("we"),
            (true, false) => Some("w"),
            (false, true) => Some("e"),
            (false, false) => None,
        }
    }

    /// Another process says what it has committed.
    pub(super) fn heard(&self, what: &str) {
        for (letter, interest) in [('w', Interest::Work), ('e', Interest::Ends)] {
            if what.contains(letter) {
                self.bump(interest);
            }
        }
    }

    /// Whether what others say is heard from now on. What they said meanwhile was not, so everybody looks once.
    pub(super) fn listens(&self, listens: bool) {
        self.listens.store(listens, Ordering::Release);
        self.bump_all();
        self.begun.notify_one();
    }

    /// Wakes those who wait now and then, so that they look for what nobody told them. Never ends.
    pub(super) async fn look(&self) {
        let mut pause = SOON;
        let mut seen = self.now(Interest::Work);
        loop {
            if !self.is_awaited() {
                self.begun.notified().await;
                continue;
            }
            let wait = if self.listens.load(Ordering::Acquire) { NET } else { pause };
            tokio::select! {
                () = tokio::time::sleep(wait) => {
                    self.bump_all();
                    pause = (pause * 2).min(LATE);
                    // What others than this loop have told since shows that there is life.
                    let now = self.now(Interest::Work);
                    if now.0 > seen.0 + 1 {
                        pause = SOON;
                    }
                    seen = now;
                }
                () = self.begun.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Changes;

    #[test]
    fn what_was_committed_is_told_once() {
        let watch = Watch::default();
        assert_eq!(watch.take_untold(), None);
        watch.committed(true, false);
        watch.committed(true, false);
        assert_eq!(watch.take_untold(), Some("w"));
        assert_eq!(watch.take_untold(), None);
        watch.committed(true, true);
        assert_eq!(watch.take_untold(), Some("we"));
        assert_eq!(
            (watch.now(Interest::Work), watch.now(Interest::Ends)),
            (Changes(3), Changes(1))
        );
        watch.heard("e");
        assert_eq!(
            (watch.now(Interest::Work), watch.now(Interest::Ends)),
            (Changes(3), Changes(2))
        );
    }
}
