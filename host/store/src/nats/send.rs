//! To the log: what queued while the last messages were on their way goes together into the next.
//!
//! There is no timer in it: a lone caller's command is sent at once, and under load the batches make themselves. A message
//! is sent again until its answer comes, under the same id, so that the server keeps it once.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use bytes::Bytes;
use omniq_model::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::connect::Connection;
use super::engine::{Ask, Sent, Shared, lock};
use super::entry::{self, Entry, Head, MOST, Sender};
use super::fault::{self, Fault, Result};
use super::image;
use crate::failpoint;
use crate::log::Command;

/// Messages on their way at the same time: enough that the server is never idle, few enough that batches form.
const WINDOW: usize = 4;
/// Commands in one message at most, and bytes after which none is added.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 256 << 10;
/// How long after it was made a message counts at most, whatever the patience: shorter than the server knows it by its id,
/// and than values are left alone that belong to nothing yet.
pub(super) const LIFE: Duration = Duration::from_secs(30);
/// What the server's limit counts beside our bytes.
const HEADERS: usize = 4 << 10;

/// Sends until all who could ask are gone, and all answers are there.
pub(super) async fn send(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut asks: mpsc::Receiver<Ask>,
) {
    let window = Arc::new(Semaphore::new(WINDOW));
    loop {
        // Only once there is room is the batch made: what comes until then goes with it.
        let permit = Arc::clone(&window).acquire_owned().await;
        let permit = permit.expect("nobody closes the window");
        let Some(first) = asks.recv().await else { break };
        let mut bytes = first.bytes.len();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(next) = asks.try_recv()
        {
            bytes += next.bytes.len();
            batch.push(next);
        }
        tokio::spawn(send_batch(Arc::clone(shared), connection.clone(), batch, permit));
    }
    // All of them: nothing is on its way any more. The client may hold what it cannot send for ever.
    let _ =
        tokio::time::timeout(shared.config.patience * 2, window.acquire_many(WINDOW as u32)).await;
    let mut applied = shared.applied.subscribe();
    let _ = tokio::time::timeout(
        shared.config.patience,
        applied.wait_for(|_| lock(&shared.pending).is_empty()),
    )
    .await;
}

/// Sends one batch until it is in the log, or nobody waits for it any more.
async fn send_batch(
    shared: Arc<Shared>,
    connection: Connection,
    batch: Vec<Ask>,
    _permit: OwnedSemaphorePermit,
) {
    let mut batch = batch;
    loop {
        batch = refuse_late(&shared, batch);
        let Some(waits_until) = batch.iter().map(|ask| ask.waits_until).min() else { return };
        let until = until(&shared, waits_until);
        let leaps = shared.leaps();
        batch.splice(0..0, tell_leap(&shared, leaps));
        let sender = shared.next_sender();
        let kinds: Vec<_> = batch.iter().map(|ask| ask.entry.kind()).collect();
        hit(&kinds, "before_publish");
        let now = shared.config.clock.as_ref().map(|clock| clock.now());
        let head = Head { sender, now, until };
        let message = entry::message(head, batch.iter().map(|ask| ask.bytes.as_slice()));
        // It may come back before its answer does.
        let by = batch.iter().filter_map(|ask| ask.by).min();
        lock(&shared.pending).insert(sender.number, Sent { asks: batch, leaps });
        let sent = put(&shared, &connection, head, by, waits_until, message).await;
        hit(&kinds, "after_publish");
        let Err(fault) = sent else { return };
        let refused = lock(&shared.pending).remove(&sender.number);
        let refused = refused.map_or_else(Vec::new, |sent| sent.asks);
        batch = refuse(&shared, &connection, refused, &fault).await;
    }
}

/// How long a message counts.
fn life(shared: &Shared) -> Duration {
    LIFE.min(shared.config.patience)
}

/// Until when a message of now counts: no longer than who asked waits for an answer.
fn until(shared: &Shared, waits_until: Instant) -> Option<Timestamp> {
    let left = waits_until.saturating_duration_since(Instant::now());
    shared.heard().map(|now| now + life(shared).min(left))
}

/// Whether who asked waits for as long as a message of that instant counts: one that counts longer does behind his back what
/// he has given up, and what somebody else may have done since.
fn waits(shared: &Shared, ask: &Ask, at: Instant) -> bool {
    at + life(shared) <= ask.waits_until
}

/// Leaves out what nobody waits for any more, and tells those who have waited too long for their turn, or whose values may
/// be gone before a message of now counts no more.
fn refuse_late(shared: &Shared, batch: Vec<Ask>) -> Vec<Ask> {
    let now = Instant::now();
    let mut in_time = Vec::with_capacity(batch.len());
    for ask in batch.into_iter().filter(|ask| !ask.reply.is_closed()) {
        let until = until(shared, ask.waits_until);
        let late = if !waits(shared, &ask, now) {
            "it waited too long for its turn and was not sent; it may be repeated"
        } else if ask.by.is_some_and(|by| until.is_none_or(|until| until > by)) {
            "its values were kept too long ago; it is to be repeated"
        } else {
            in_time.push(ask);
            continue;
        };
        let _ = ask.reply.send(Err(Fault::unknown(late))); // it may have gone away since
    }
    in_time
}

/// What goes before the first command after this machine slept, or its clock was set: what the log makes of it stands where it is applied.
fn tell_leap(shared: &Shared, leaps: Duration) -> Option<Ask> {
    let leapt = leaps.saturating_sub(*lock(&shared.leapt));
    if leapt.is_zero() {
        return None;
    }
    let entry = Entry::Tasks(Command::Spare(leapt));
    let (reply, _) = oneshot::channel(); // nobody asked
    let waits_until = Instant::now() + shared.config.patience * 2;
    Some(Ask { bytes: entry.to_bytes(), entry, by: None, waits_until, reply })
}

/// Tells who asked that it was not done; returns what is worth another try. Where there is no room, that is what may make
/// some: ends and removals.
async fn refuse(
    shared: &Arc<Shared>,
    connection: &Connection,
    refused: Vec<Ask>,
    fault: &Fault,
) -> Vec<Ask> {
    let full = matches!(fault, Fault::Full(_));
    let pause = Duration::from_millis(500).mul_f64(super::roll());
    let then = Instant::now() + pause;
    let (again, refused): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|ask| full && !ask.entry.grows() && waits(shared, ask, then));
    for ask in refused {
        let _ = ask.reply.send(Err(fault.clone())); // a caller that went away does not want to know
    }
    if full {
        image::begin(shared, connection); // a new image lets old messages go
    }
    if !again.is_empty() {
        tokio::time::sleep(pause).await;
    }
    again
}

/// Puts a message into the log, before `by` if something in it needs that. That it is not known whether it came to stand
/// there is told only once it cannot come to any more: what is asked next is not overtaken by it.
async fn put(
    shared: &Shared,
    connection: &Connection,
    head: Head,
    by: Option<Timestamp>,
    waits_until: Instant,
    message: Vec<u8>,
) -> Result<()> {
    let mut head = head;
    let most = connection.client.max_payload().min(MOST).saturating_sub(HEADERS);
    let message = if message.len() > most {
        let object = entry::object_of(head.sender, message.len());
        connection.values.put_object(&object, &message).await?;
        // That may have taken long.
        let until = until(shared, waits_until);
        head.until = until.map(|until| by.map_or(until, |by| by.min(until)));
        entry::elsewhere(head, &object)
    } else {
        message
    };
    let give_up = waits_until.min(Instant::now() + life(shared));
    let message = Bytes::from(message);
    let mut attempt = 0;
    loop {
        let Err((fault, again)) = publish(shared, connection, head.sender, message.clone()).await
        else {
            return Ok(());
        };
        if !again {
            return Err(fault);
        }
        let pause = Duration::from_millis(50 << attempt.min(4)).mul_f64(super::roll());
        let is_over = Instant::now() + pause >= give_up;
        if is_over {
            let _ = tokio::time::timeout(LIFE, outlast(shared, head.until)).await;
        }
        if !lock(&shared.pending).contains_key(&head.sender.number) {
            return Ok(()); // it came back: only the answer was lost
        }
        if is_over {
            return Err(fault);
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// Waits until nothing counts any more that counts until then.
async fn outlast(shared: &Shared, until: Option<Timestamp>) {
    while let (Some(now), Some(until)) = (shared.heard(), until)
        && now <= until
    {
        tokio::time::sleep(until.since(now) + Duration::from_millis(1)).await;
    }
}

/// Sends a message once; an error says whether to try it again.
async fn publish(
    shared: &Shared,
    connection: &Connection,
    sender: Sender,
    message: Bytes,
) -> std::result::Result<(), (Fault, bool)> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, sender.id());
    let subject = shared.config.log_subject();
    let sent = connection.context.publish_with_headers(subject, headers, message).await;
    let answer = match sent {
        Ok(answer) => answer.await,
        Err(error) => Err(error),
    };
    answer.map(|_| ()).map_err(|error| fault::of_publish(&error))
}

pub(super) fn hit(kinds: &[&str], place: &str) {
    if cfg!(any(debug_assertions, feature = "failpoints")) {
        for kind in kinds {
            failpoint::hit(&format!("nats.{kind}.{place}"));
        }
    }
}
