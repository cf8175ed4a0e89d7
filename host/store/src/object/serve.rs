//! The owner's side of a folder: other processes reach the state machine through a socket in it.
//!
//! Only processes of the same user are let in.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::frame::{self, Request};
use super::log_file::failed;
use super::socket;
use crate::log::wire::Out;
use crate::log::{Engine, Fault, Signals};
use crate::{Interest, Result};

/// Requests of one guest that are under way at once.
const WIDTH: usize = 1024;

/// Opens the socket of a folder, whose lock is held.
pub(super) fn listen(folder: &Path) -> Result<UnixListener> {
    let path = socket::path(folder);
    let listen = || -> std::io::Result<UnixListener> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = StdListener::bind(socket::short(folder)?.as_path())?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    listen().map_err(|error| failed(&path, "listen on", &error))
}

/// Serves guests until it is dropped, and with it all of them.
pub(super) async fn serve(listener: &UnixListener, engine: &Arc<Engine>, signals: &Arc<Signals>) {
    let mut guests = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (engine, signals) = (Arc::clone(engine), Arc::clone(signals));
                guests.spawn(async move {
                    // A guest that is cut off finds that out by itself.
                    let _ = guest(stream, engine, signals).await;
                });
            }
            // Too many files are open, mostly: that passes.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
        while guests.try_join_next().is_some() {}
    }
}

async fn guest(
    mut stream: UnixStream,
    engine: Arc<Engine>,
    signals: Arc<Signals>,
) -> std::io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if user != rustix::process::geteuid().as_raw() && user != 0 {
        return Ok(());
    }
    let Some(hello) = frame::read(&mut stream).await? else { return Ok(()) };
    let refusal = frame::refusal(&hello);
    frame::write(&mut stream, &[refusal.as_deref().unwrap_or("").as_bytes()]).await?;
    if refusal.is_some() {
        return Ok(());
    }
    let (reading, writing) = stream.into_split();
    let (answers, to_write) = mpsc::channel(WIDTH);
    tokio::select! {
        done = take(reading, engine, answers) => done,
        done = tell(writing, to_write, signals) => done,
    }
}

/// Takes requests in, and has each answered when it is.
async fn take(
    reading: OwnedReadHalf,
    engine: Arc<Engine>,
    answers: mpsc::Sender<Vec<u8>>,
) -> std::io::Result<()> {
    let mut reading = BufReader::new(reading);
    let room = Arc::new(Semaphore::new(WIDTH));
    while let Some(bytes) = frame::read(&mut reading).await? {
        let Some((number, request)) = bytes.split_first_chunk::<8>() else {
            return Err(std::io::Error::other("a request without a number"));
        };
        let (number, engine, answers) = (*number, Arc::clone(&engine), answers.clone());
        let request = Request::decode(request);
        let is_query = matches!(request, Ok(Request::Query(_)));
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        tokio::spawn(async move {
            let outcome = match request {
                Ok(Request::Command(command)) => match engine.ask(command).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Fault::Closed),
                },
                Ok(Request::Query(query)) => engine.look(&query).await,
                Err(error) => Err(Fault::Lost(error.to_string())),
            };
            let mut bytes = number.to_vec();
            bytes.extend_from_slice(&frame::encode_fitting(&outcome, is_query));
            let _ = answers.send(bytes).await; // the guest has gone
            drop(permit);
        });
    }
    Ok(())
}

/// Writes answers, and before each what had changed by then, so that a guest that has an answer knows of its effects.
async fn tell(
    writing: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Vec<u8>>,
    signals: Arc<Signals>,
) -> std::io::Result<()> {
    let mut writing = BufWriter::with_capacity(64 << 10, writing);
    let (mut work, mut ends) =
        (signals.subscribe(Interest::Work), signals.subscribe(Interest::Ends));
    loop {
        let answer = match answers.try_recv() {
            Ok(answer) => Some(answer),
            Err(_) => {
                writing.flush().await?;
                tokio::select! {
                    answer = answers.recv() => match answer {
                        Some(answer) => Some(answer),
                        None => return Ok(()),
                    },
                    changed = work.changed() => {
                        if changed.is_ok() { work.mark_changed(); }
                        None
                    }
                    changed = ends.changed() => {
                        if changed.is_ok() { ends.mark_changed(); }
                        None
                    }
                }
            }
        };
        let changed = (work.has_changed().unwrap_or(false), ends.has_changed().unwrap_or(false));
        if changed != (false, false) {
            work.mark_unchanged();
            ends.mark_unchanged();
            let mut out = Out::default();
            out.fixed(0);
            out.flag(changed.0);
            out.flag(changed.1);
            frame::write(&mut writing, &[&out.into_bytes()]).await?;
        }
        if let Some(answer) = answer {
            frame::write(&mut writing, &[&answer]).await?;
        }
    }
}
