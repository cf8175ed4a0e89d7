//! A process that is not the owner: it sends its requests over and takes the answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Outcome};
use crate::Interest;
use crate::log::wire::In;
use crate::log::{Fault, Signals};

/// A request on its way, as bytes.
#[derive(Debug)]
pub(super) struct Call {
    pub request: Vec<u8>,
    /// How long whoever asks waits at most.
    pub patience: Duration,
    pub reply: oneshot::Sender<Outcome>,
}

type Pending = HashMap<u64, oneshot::Sender<Outcome>>;

/// Passes requests on until the owner has gone, or nobody can ask any more and all is answered. What was sent and not
/// answered when the owner goes may have been done.
pub(super) async fn pump(
    stream: UnixStream,
    mut calls: mpsc::Receiver<Call>,
    signals: &Arc<Signals>,
) {
    let (reading, writing) = stream.into_split();
    let mut writing = BufWriter::with_capacity(64 << 10, writing);
    // Without a bound: an owner that cannot get rid of its answers takes no requests, and both would wait for ever.
    let (frames, mut incoming) = mpsc::unbounded_channel();
    let reader = tokio::spawn(read_all(reading, frames));
    let (mut pending, mut last, mut open) = (Pending::new(), 0_u64, true);
    while open || !pending.is_empty() {
        tokio::select! {
            frame = incoming.recv() => {
                let Some(frame) = frame else { break };
                if take(&frame, &mut pending, signals).is_none() {
                    break;
                }
            }
            call = calls.recv(), if open => {
                let Some(mut call) = call else {
                    open = false;
                    continue;
                };
                let sent = loop {
                    if let Some(reason) = frame::excess(&call.request) {
                        let _ = call.reply.send(Err(Fault::Large(reason))); // as below
                    } else {
                        last += 1;
                        pending.insert(last, call.reply);
                        let number = last.to_le_bytes();
                        let written = frame::write(&mut writing, &[&number, &call.request]).await;
                        if let Err(error) = written {
                            break Err(error);
                        }
                    }
                    match calls.try_recv() {
                        Ok(next) => call = next,
                        Err(_) => break writing.flush().await,
                    }
                };
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    reader.abort();
    for (_, reply) in pending {
        let gone =
            Fault::Lost("the process that has the store went away before it answered".into());
        let _ = reply.send(Err(gone)); // nobody waits for it any more
    }
    calls.close();
    while let Some(call) = calls.recv().await {
        let _ = call.reply.send(Err(Fault::Closed)); // as above
    }
}

async fn read_all(reading: OwnedReadHalf, frames: mpsc::UnboundedSender<Vec<u8>>) {
    let mut reading = BufReader::with_capacity(64 << 10, reading);
    while let Ok(Some(frame)) = frame::read(&mut reading).await {
        if frames.send(frame).is_err() {
            return;
        }
    }
}

/// Takes an answer, or the word that something changed. `None`: the owner is not understood.
fn take(frame: &[u8], pending: &mut Pending, signals: &Signals) -> Option<()> {
    let (number, rest) = frame.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    if number == 0 {
        let mut input = In::new(rest);
        if input.flag().ok()? {
            signals.bump(Interest::Work);
        }
        if input.flag().ok()? {
            signals.bump(Interest::Ends);
        }
        return Some(());
    }
    let reply = pending.remove(&number)?;
    let outcome = frame::decode_outcome(rest)
        .unwrap_or_else(|error| Err(Fault::Lost(format!("the answer is not understood: {error}"))));
    let _ = reply.send(outcome); // a caller that went away does not want to know
    Some(())
}
