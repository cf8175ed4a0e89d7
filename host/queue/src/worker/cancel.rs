//! Stops running tasks that somebody called off.
//!
//! Heartbeats tell of them as well, but seconds apart. Here it takes a quarter of a second, and costs a question only
//! while something runs that long and something has changed in the store.

use std::sync::Arc;
use std::time::Duration;

use omniq_store::{Changes, Interest, chain};

use super::attempt::Why;
use super::shared::Shared;

/// How soon a request is noticed; with the grace a guest has to notice it itself that stays below a second.
const EVERY: Duration = Duration::from_millis(250);

/// Looks for requests until it is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut seen = None;
    loop {
        if !shared.holds_for(EVERY) {
            tokio::time::sleep(EVERY).await;
            continue;
        }
        let now = shared.tasks().changes(Interest::Work);
        if seen != Some(now) {
            match shared.tasks().cancels(&shared.session()).await {
                Ok(requested) => {
                    shared.stop(&requested, Why::CalledOff);
                    seen = Some(now);
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "could not ask which tasks are called off");
                }
            }
        }
        pause(&shared, now).await;
    }
}

/// A quarter of a second, in which the store is listened to: some notice changes of other processes only then.
async fn pause(shared: &Shared, seen: Changes) {
    let listen = shared.tasks().changed(Interest::Work, seen, EVERY);
    tokio::join!(tokio::time::sleep(EVERY), listen);
}
