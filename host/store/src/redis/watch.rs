//! What has changed: pushed by the server to one connection of the process, with a slow poll as the net.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::fault::Result;
use super::link::{Link, jitter};
use super::reply;
use crate::Interest;

/// How often it is asked what has changed while somebody waits, should nothing be pushed.
const POLL: Duration = Duration::from_secs(2);

/// Counts of changes, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Watch(crate::watch::Watch);

impl Deref for Watch {
    type Target = crate::watch::Watch;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Watch {
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
            if !self.is_awaited() {
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
