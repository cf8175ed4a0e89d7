//! Who owns a folder on this host: whoever has its lock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::hub::{Keeper, Seat};
use super::socket::{Knock, knock};
use super::{folder, guest, serve};
use crate::log::{Engine, Limits};
use crate::{Error, Result};

/// Requests to the owner that wait at most; more callers wait to be let in.
const QUEUE: usize = 1024;
/// How long a store that is closed waits for answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// Owns the folder when nobody does, and is a guest of who does, until the store is closed.
pub(super) async fn keep(keeper: &mut Keeper, tasks: &Path) {
    let mut pause = Duration::from_millis(1);
    while !keeper.is_closing() {
        let goes_on = match folder::lock(tasks) {
            Ok(Some(lock)) => own(keeper, tasks, lock).await,
            Ok(None) => {
                // An owner that is stopped lets nobody in, and sends nobody away.
                let knocked = tokio::select! {
                    knocked = knock(tasks) => knocked,
                    () = keeper.closed() => return,
                };
                match knocked {
                    Knock::In(stream) => {
                        pause = Duration::from_millis(1);
                        visit(keeper, stream).await;
                        Ok(())
                    }
                    Knock::Refused(why) => Err(Error::Config(why)),
                    Knock::Nobody => {
                        keeper.pause(pause).await;
                        pause = (pause * 2).min(Duration::from_millis(50));
                        Ok(())
                    }
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = goes_on {
            if !keeper.fail(error) {
                return;
            }
            keeper.pause(Duration::from_secs(1)).await;
        }
    }
}

/// Is the owner until the store is closed, or the log is lost.
async fn own(keeper: &mut Keeper, tasks: &Path, lock: folder::Lock) -> Result<()> {
    keeper.sit(Seat::Loading);
    super::meta::obtain(&keeper.config.root).await?;
    let (state, journal) = folder::recover(tasks, &keeper.config)?;
    let listener = serve::listen(tasks)?;
    let clock = Arc::clone(&keeper.config.clock);
    let signals = Arc::clone(&keeper.signals);
    let engine = Engine::start(state, journal, clock, Arc::clone(&signals), Limits::default())
        .map_err(|error| Error::Config(format!("a thread did not start: {error}")))?;
    let engine = Arc::new(engine);
    keeper.sit(Seat::Owner(Arc::clone(&engine)));
    tokio::select! {
        () = serve::serve(&listener, &engine, &signals) => {}
        _ = engine.ended() => {}
        () = keeper.closed() => {}
    }
    keeper.sit(Seat::Vacant);
    drop(listener); // guests come to the next owner
    engine.let_go();
    engine.ended().await;
    drop(lock);
    Ok(())
}

/// Is a guest until the store is closed and all is answered, or the owner has gone.
async fn visit(keeper: &mut Keeper, stream: tokio::net::UnixStream) {
    let (calls, to_send) = mpsc::channel(QUEUE);
    let signals = Arc::clone(&keeper.signals);
    keeper.sit(Seat::Guest(calls));
    let closed = async {
        keeper.closed().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        () = guest::pump(stream, to_send, &signals) => {}
        () = closed => {}
    }
    keeper.sit(Seat::Vacant);
}
