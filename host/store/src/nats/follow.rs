//! From the log: every message is applied in its order, and those of this process are answered.
//!
//! The server pushes. Whenever the connection was lost, or the server sends no sign of life, the log is looked over before
//! it is followed on: a server that lost power may have lost the end of it, and then what was applied of that end is taken
//! back by starting from an image.

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
use super::state::Place;
use super::values::instant;
use crate::{Clock as _, Interest};

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

/// Follows the log until the connection is lost, or the log is to be looked over.
async fn follow_once(
    shared: &Arc<Shared>,
    connection: &Connection,
    losses: &mut tokio::sync::watch::Receiver<u64>,
    tail: &mut Option<Place>,
    attempt: &mut u32,
) -> Result<()> {
    let from = look_over(shared, connection, tail).await?;
    let config = push::OrderedConfig {
        deliver_subject: connection.client.new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.seq + 1 },
        ..Default::default()
    };
    let consumer =
        connection.log.create_consumer(config).await.map_err(|error| fault::of(&error))?;
    shared.hear_anew(instant(consumer.cached_info().created));
    if shared.noted() != Some(from) {
        shared.note(from, true);
    }
    let mut messages = consumer.messages().await.map_err(|error| fault::of(&error))?;
    for nth in 1.. {
        let message = tokio::select! {
            biased; // nothing is applied of which it is known that it may be lost
            _ = losses.changed() => return Ok(()),
            () = shared.doubt.notified() => return Ok(()),
            message = messages.next() => message,
        };
        let Some(Ok(message)) = message else { return Err(Fault::unknown("the log is silent")) };
        let info = message.info().map_err(Fault::unknown)?;
        if info.consumer_sequence != nth {
            return Ok(()); // the client has begun anew, behind a message that may be another one by now
        }
        let place = Place { seq: info.stream_sequence, stamp: nanos(info.published) };
        let expected = tail.map_or(1, |tail| tail.seq + 1);
        if place.seq != expected {
            return Err(Fault::unknown("the log has a gap, or goes back"));
        }
        let at = instant(info.published);
        shared.hear(at);
        apply(shared, connection, place, at, &message.payload).await?;
        *tail = Some(place);
        *attempt = 0;
    }
    Ok(())
}

/// Brings log and state together; returns the message to go on after.
async fn look_over(
    shared: &Arc<Shared>,
    connection: &Connection,
    tail: &mut Option<Place>,
) -> Result<Place> {
    let info = connection.log.get_info().await.map_err(|error| fault::of(&error))?;
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if let Some(known) = *tail
        && is_there(connection, known, first, last).await?
    {
        return Ok(known);
    }
    let fresh = tail.is_none();
    let state = shared.reading(image::load(connection, first, last)).await?;
    if !fresh {
        let lost =
            Fault::unknown("the server lost the end of the log, or kept us from it for too long");
        shared.drop_pending(&lost);
    }
    let place = state.applied;
    *shared.state()? = state;
    *tail = Some(place);
    if !fresh {
        shared.watch.bump(Interest::Work);
        shared.watch.bump(Interest::Ends);
    }
    Ok(place)
}

/// Whether the last message we applied is still in the log, as it was.
async fn is_there(connection: &Connection, known: Place, first: u64, last: u64) -> Result<bool> {
    if known.seq == 0 {
        return Ok(first <= 1);
    }
    if known.seq > last || known.seq < first {
        return Ok(false); // lost, or let go since images have it
    }
    Ok(known.stamp == 0 || stamp_of(connection, known.seq).await? == known.stamp)
}

/// When the server stamped that message of the log.
pub(super) async fn stamp_of(connection: &Connection, seq: u64) -> Result<i64> {
    let message = connection.log.get_raw_message(seq).await.map_err(|error| fault::of(&error))?;
    Ok(nanos(message.time))
}

/// An instant of the server's, in nanoseconds since 1970.
fn nanos(at: async_nats::datetime::DateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos()).unwrap_or(0)
}

/// Applies one message, and answers if it is ours.
async fn apply(
    shared: &Arc<Shared>,
    connection: &Connection,
    place: Place,
    at: Timestamp,
    bytes: &[u8],
) -> Result<()> {
    let seq = place.seq;
    let damaged = |error: omniq_model::DecodeError| {
        Fault::Corrupt(format!("message {seq} of the log cannot be read by this version: {error}"))
    };
    let message = Message::read(bytes).map_err(damaged)?;
    let ours = message.head.sender.process == shared.process;
    let void = message.head.until.is_some_and(|until| at > until);
    let object = match message.body {
        Body::Elsewhere(object) if !void => Some(object.to_owned()),
        _ => None,
    };
    let sent = if ours { lock(&shared.pending).remove(&message.head.sender.number) } else { None };
    let mut asks = Vec::new();
    match sent {
        Some(sent) if void => shared.ask_again(sent.asks),
        Some(sent) => {
            let mut told = lock(&shared.leapt);
            *told = told.max(sent.leaps);
            asks = sent.asks;
        }
        None => {}
    }
    let (own, replies): (Vec<_>, Vec<_>) =
        asks.into_iter().map(|ask| (ask.entry, ask.reply)).unzip();
    // What this process sent it need not read; debug builds do, so that tests apply what others will.
    let entries = if void {
        Vec::new()
    } else if own.is_empty() || cfg!(debug_assertions) {
        match message.body {
            Body::Here(body) => entry::entries(body).map_err(damaged)?,
            Body::Elsewhere(object) => shared.reading(read_object(connection, seq, object)).await?,
        }
    } else {
        own
    };
    let kinds: Vec<_> =
        if ours { entries.iter().map(|entry| entry.kind()).collect() } else { Vec::new() };
    let (answers, changed, dropped, overdue) = {
        let mut state = shared.state()?;
        let before = state.overdue(shared.config.image_every);
        if !void {
            state.begin(message.head.now.unwrap_or(at));
        }
        let answers: Vec<Answer> = entries.into_iter().map(|entry| state.apply(entry)).collect();
        state.advance(place, bytes.len(), object);
        let overdue = state.overdue(shared.config.image_every) > before;
        (answers, state.core.take_changed(), state.take_dropped(), overdue)
    };
    hit(&kinds, "after_apply");
    shared.note(place, false);
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
            tokio::spawn(async move { values.drop_values(dropped, at).await });
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
    let Some(bytes) = connection.values.object(object).await? else {
        let info = connection.log.get_info().await.map_err(|error| fault::of(&error))?;
        if info.state.first_sequence > seq {
            return Err(Fault::unknown("images have replaced the log up to here"));
        }
        return Err(missing());
    };
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

pub(super) async fn look_once(shared: &Shared, connection: &Connection) -> Result<u64> {
    let mut applied = shared.applied.subscribe();
    loop {
        shared.check_broken()?;
        if shared.noted().is_none() {
            let _ = tokio::time::timeout(Duration::from_secs(1), applied.changed()).await;
            continue;
        }
        let before = *applied.borrow_and_update();
        let info = connection.log.get_info().await.map_err(|error| fault::of(&error))?;
        let (seq, stamp) = (info.state.last_sequence, nanos(info.state.last_timestamp));
        let caught_up = applied.wait_for(|applied| *applied >= seq);
        // A broken engine applies nothing any more, and a log may become shorter: looked at now and then, since nobody tells.
        match tokio::time::timeout(Duration::from_secs(1), caught_up).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Fault::Closed),
            Err(_) => continue,
        }
        let last = if seq == 0 { Place::default() } else { Place { seq, stamp } };
        if before <= seq && shared.recalls(last) {
            return Ok(seq);
        }
        // What was applied is not, or not any more, in the log: it may have lost its end since.
        shared.doubt.notify_one();
        tokio::time::sleep(Duration::from_millis(50).mul_f64(super::roll())).await;
    }
}
