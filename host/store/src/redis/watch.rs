//! What has changed: pushed by the server to one connection of the process, with a slow poll as the net.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};

use super::fault::Result;
use super::link::{Link, jitter};
use super::reply;
use crate::{Changes, Interest};

/// How often it is asked what has changed while somebody waits, should nothing be pushed.
const POLL: Duration = Duration::from_secs(2);

/// Counts of changes, and who waits for them.
#[derive(Debug)]
pub(super) struct Watch {
    work: watch::Sender<u64>,
    ends: watch::Sender<u64>,
    waiting: AtomicUsize,
    /// Tells the one who polls that somebody has begun to wait.
    begun: Notify,
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

    fn bump_all(&self) {
        self.bump(Interest::Work);
        self.bump(Interest::Ends);
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
        let _waiting = Waiting::begin(self);
        // Its sender lives as long as we do, so that the wait ends by a change or by the clock.
        let _ = tokio::time::timeout(timeout, receiver.wait_for(|count| *count > seen.0)).await;
        let count = *receiver.borrow();
        Changes(count)
    }

    /// Hears what other processes publish, for ever; what comes from `origin` was counted by itself.
    pub(super) async fn listen(
        self: Arc<Self>,
        link: Arc<Link>,
        channel: Vec<u8>,
        origin: [u8; 8],
    ) {
        let mut failed = 0;
        loop {
            if let Ok(mut listening) = link.listen(&channel).await {
                failed = 0;
                // What was published before is not told any more.
                self.bump_all();
                let mut messages = listening.on_message();
                while let Some(message) = messages.next().await {
                    self.hear(message.get_payload_bytes(), origin);
                }
            }
            failed += 1;
            tokio::time::sleep(jitter(failed)).await;
        }
    }

    fn hear(&self, message: &[u8], origin: [u8; 8]) {
        if message.get(2..) == Some(&origin[..]) {
            return;
        }
        if message.first() == Some(&b'w') {
            self.bump(Interest::Work);
        }
        if message.get(1) == Some(&b'e') {
            self.bump(Interest::Ends);
        }
    }

    /// Asks what has changed, now and then while somebody waits, for ever.
    pub(super) async fn poll(self: Arc<Self>, link: Arc<Link>, meta: Vec<u8>) {
        let mut known = None;
        loop {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                self.begun.notified().await;
            }
            tokio::time::sleep(POLL).await;
            let Ok(counts) = read(&link, &meta).await else { continue };
            if known.replace(counts).is_some_and(|before| before != counts) {
                self.bump_all();
            }
        }
    }
}

/// How often work came and tasks ended, as the server counts.
async fn read(link: &Link, meta: &[u8]) -> Result<[i64; 2]> {
    let mut command = redis::cmd("HMGET");
    command.arg(meta).arg("work").arg("ends");
    let [work, ends] = reply::parts(link.query(&command).await?)?;
    let number = |value| reply::int(&value).unwrap_or(0);
    Ok([number(work), number(ends)])
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
