//! From the log: every message is applied in its order, and those of this process are answered.
//!
//! The server pushes. Whenever the connection was lost, or the server sends no sign of life, the log is looked over before
//! it is followed on: a server that lost power may have lost the end of it, and then what was applied of that end is taken
//! back by starting from an image.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, push};
use futures_util::StreamExt as _;
use omniq_model::Timestamp;
use tokio::sync::mpsc;

use super::connect::Connection;
use super::engine::{Look, Shared, lock};
use super::entry::{self, Answer, Body, Message};
use super::fault::{self, Fault, Result};
use super::image;
use super::send::hit;
use super::state::State;
use super::values::millis;
use crate::{Clock as _, Interest};

/// The last message that was applied, so that it is known again.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    seq: u64,
    hash: u64,
}

/// Follows the log for as long as the engine lives.
pub(super) async fn follow(shared: Arc<Shared>, connection: Connection) {
    let mut losses = connection.losses.clone();
    let mut tail = None;
    let mut attempt = 0_u32;
    loop {
        losses.borrow_and_update();
        let followed =
            follow_once(&shared, &connection, &mut losses, &mut tail, &mut attempt).await;
        match followed {
            Ok(()) => {}
            Err(Fault::Unknown(_)) => attempt += 1,
            Err(fault) => {
                shared.fail(&fault);
                return;
            }
        }
        if attempt > 0 {
            let most = Duration::from_millis(50 << attempt.min(5));
            tokio::time::sleep(most.mul_f64(super::roll())).await;
        }
    }
}

/// Follows the log until the connection is lost.
async fn follow_once(
    shared: &Arc<Shared>,
    connection: &Connection,
    losses: &mut tokio::sync::watch::Receiver<u64>,
    tail: &mut Option<Tail>,
    attempt: &mut u32,
) -> Result<()> {
    let from = look_over(shared, connection, tail).await?;
    let config = push::OrderedConfig {
        deliver_subject: connection.client.new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
        ..Default::default()
    };
    let consumer =
        connection.log.create_consumer(config).await.map_err(|error| fault::of(&error))?;
    let mut messages = consumer.messages().await.map_err(|error| fault::of(&error))?;
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            _ = losses.changed() => return Ok(()),
        };
        let Some(Ok(message)) = message else { return Err(Fault::unknown("the log is silent")) };
        let info = message.info().map_err(Fault::unknown)?;
        let (seq, at) = (info.stream_sequence, Timestamp::from_millis(millis(info.published)));
        let expected = tail.map_or(1, |tail| tail.seq + 1);
        if seq != expected {
            return Err(Fault::unknown("the log has a gap, or goes back"));
        }
        apply(shared, connection, seq, at, &message.payload).await?;
        *tail = Some(Tail { seq, hash: hash(&message.payload) });
        *attempt = 0;
    }
}

/// Brings log and state together; returns the message to go on from.
async fn look_over(
    shared: &Arc<Shared>,
    connection: &Connection,
    tail: &mut Option<Tail>,
) -> Result<u64> {
    let info = connection.log.get_info().await.map_err(|error| fault::of(&error))?;
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if let Some(known) = *tail
        && first <= known.seq + 1
        && is_there(connection, known, first, last).await?
    {
        return Ok(known.seq + 1);
    }
    let fresh = tail.is_none();
    let (state, seq) = image::load(connection, first, last).await?;
    if !fresh {
        let lost =
            Fault::unknown("the server lost the end of the log, or kept us from it for too long");
        shared.drop_pending(&lost);
    }
    *shared.state()? = state;
    *tail = Some(Tail { seq, hash: 0 });
    shared.applied.send_replace(seq);
    if !fresh {
        shared.watch.bump(Interest::Work);
        shared.watch.bump(Interest::Ends);
    }
    Ok(seq + 1)
}

/// Whether the last message we applied is still in the log, as it was.
async fn is_there(connection: &Connection, known: Tail, first: u64, last: u64) -> Result<bool> {
    if known.seq > last {
        return Ok(false);
    }
    if known.seq < first || known.hash == 0 {
        return Ok(true); // an image has it, and nothing came after it yet
    }
    let message =
        connection.log.get_raw_message(known.seq).await.map_err(|error| fault::of(&error))?;
    Ok(hash(&message.payload) == known.hash)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() | 1 // never 0
}

/// Applies one message, and answers if it is ours.
async fn apply(
    shared: &Arc<Shared>,
    connection: &Connection,
    seq: u64,
    at: Timestamp,
    bytes: &[u8],
) -> Result<()> {
    let damaged = |error: omniq_model::DecodeError| {
        Fault::Corrupt(format!("message {seq} of the log cannot be read by this version: {error}"))
    };
    let message = Message::read(bytes).map_err(damaged)?;
    let ours = message.sender.process == shared.process;
    let object = match message.body {
        Body::Here(_) => None,
        Body::Elsewhere(object) => Some(object.to_owned()),
    };
    let asks = if ours { lock(&shared.pending).remove(&message.sender.number) } else { None };
    let (own, replies): (Vec<_>, Vec<_>) =
        asks.unwrap_or_default().into_iter().map(|ask| (ask.entry, ask.reply)).unzip();
    // What this process sent it need not read; debug builds do, so that tests apply what others will.
    let entries = if own.is_empty() || cfg!(debug_assertions) {
        match message.body {
            Body::Here(body) => entry::entries(body).map_err(damaged)?,
            Body::Elsewhere(object) => read_object(connection, seq, object).await?,
        }
    } else {
        own
    };
    let kinds: Vec<_> =
        if ours { entries.iter().map(|entry| entry.kind()).collect() } else { Vec::new() };
    let (answers, changed, dropped, overdue) = {
        let mut state = shared.state()?;
        let before = state.overdue(shared.config.image_every);
        state.begin(message.now.unwrap_or(at));
        let answers: Vec<Answer> = entries.into_iter().map(|entry| state.apply(entry)).collect();
        state.advance(seq, bytes.len(), object);
        let overdue = state.overdue(shared.config.image_every) > before;
        (answers, state.core.take_changed(), state.take_dropped(), overdue)
    };
    hit(&kinds, "after_apply");
    shared.applied.send_replace(seq);
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(Ok(answer)); // a caller that went away does not want to know
    }
    for (changed, interest) in [(changed.work, Interest::Work), (changed.ends, Interest::Ends)] {
        if changed {
            shared.watch.bump(interest);
        }
    }
    if ours {
        let here = shared.clock.now().as_millis();
        shared.offset.store(at.as_millis().saturating_sub(here), Ordering::Relaxed);
        if !dropped.is_empty() {
            let values = connection.values.clone();
            tokio::spawn(async move { values.drop_values(dropped).await });
        }
        if overdue {
            image::begin(shared, connection);
        }
    }
    Ok(())
}

/// The entries of a message that was too large for the log.
async fn read_object(connection: &Connection, seq: u64, object: &str) -> Result<Vec<entry::Entry>> {
    let missing = || {
        Fault::Corrupt(format!(
            "message {seq} of the log was in the object `{object}`, which is gone"
        ))
    };
    let bytes = connection.values.object(object).await?.ok_or_else(missing)?;
    let damaged = |error: omniq_model::DecodeError| {
        Fault::Corrupt(format!("the object `{object}` cannot be read by this version: {error}"))
    };
    match Message::read(&bytes).map_err(damaged)?.body {
        Body::Here(body) => entry::entries(body).map_err(damaged),
        Body::Elsewhere(_) => Err(missing()),
    }
}

/// Tells those who ask when this process has applied all that was in the log when they asked. One question to the server
/// serves all who wait.
pub(super) async fn look(
    shared: Arc<Shared>,
    connection: Connection,
    mut looks: mpsc::Receiver<Look>,
) {
    while let Some(first) = looks.recv().await {
        let mut waiting = vec![first];
        while let Ok(next) = looks.try_recv() {
            waiting.push(next);
        }
        let seen = look_once(&shared, &connection).await;
        for look in waiting {
            let _ = look.send(seen.clone()); // a caller that went away does not want to know
        }
    }
}

async fn look_once(shared: &Shared, connection: &Connection) -> Result<()> {
    let info = connection.log.get_info().await.map_err(|error| fault::of(&error))?;
    let last = info.state.last_sequence;
    let mut applied = shared.applied.subscribe();
    loop {
        shared.check_broken()?;
        let caught_up = applied.wait_for(|applied| *applied >= last);
        // A broken engine applies nothing any more: looked at now and then, since nobody tells.
        match tokio::time::timeout(Duration::from_secs(1), caught_up).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(Fault::Closed),
            Err(_) => {}
        }
    }
}

/// A state without anything in it, before the first message.
pub(super) fn empty() -> (State, u64) {
    (State::default(), 0)
}
