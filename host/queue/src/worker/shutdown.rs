//! Ends a worker without losing or counting anything: waits, then stops and refunds what still runs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use omniq_model::EventKind;
use omniq_sandbox::Cancel;
use omniq_store::chain;
use tokio::time::timeout;

use super::attempt::Why;
use super::claim::{BACKOFF, reconcile};
use super::shared::{Phase, Shared};
use crate::event;

/// How long guests may take to stop once they were told to, beyond their own grace.
const SLACK: Duration = Duration::from_secs(1);
/// How long the store may take for the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Called when nothing is claimed any more; returns when the session is closed.
pub(super) async fn run(shared: &Shared) {
    tokio::select! {
        () = until_idle(shared, true) => {}
        () = put_back_lost(shared) => {}
    }
    if shared.count() > 0 {
        tracing::info!(
            tasks = shared.count(),
            "the grace is over: running tasks are stopped and put back"
        );
        shared.stop_all(None, Why::Shutdown);
        let _ = timeout(Cancel::GRACE + SLACK, until_idle(shared, false)).await;
    }
    // What has ended and is not committed yet gets a last chance, as long as the store may need.
    let until = Instant::now() + LAST_WORDS;
    let _ = timeout(LAST_WORDS, async {
        while shared.pools().iter().all(|pool| pool.load().running() == 0) && shared.count() > 0 {
            let_go(shared).await;
        }
    })
    .await;
    close(shared, until).await;
}

/// Puts back what the store holds for us without our knowing, as soon as that comes out: others may run it while our last tasks
/// take their time. Never ends.
async fn put_back_lost(shared: &Shared) {
    loop {
        if !shared.is_suspect.load(Ordering::Acquire) {
            shared.wake.notified().await;
            continue;
        }
        if let Err(error) = reconcile(shared, &shared.session()).await {
            tracing::warn!(error = %chain(&error), "could not put back claims whose answer was lost");
        }
        tokio::time::sleep(BACKOFF.1).await;
    }
}

/// Waits until nothing is held; with a deadline not beyond it, which may move while this waits.
async fn until_idle(shared: &Shared, has_deadline: bool) {
    let mut phase = shared.phase();
    while shared.count() > 0 {
        let deadline = match *phase.borrow_and_update() {
            Phase::Stopping(deadline) if has_deadline => deadline,
            // Another part of the worker has failed: what the pools had was dropped, and never comes back.
            Phase::Ended => return,
            _ => None,
        };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return;
        }
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = let_go(shared) => {}
            () = over => {}
            changed = phase.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until something was let go of. It runs on the thread that lets go, so nothing slips in between.
async fn let_go(shared: &Shared) {
    shared.let_go.notified().await;
}

async fn close(shared: &Shared, until: Instant) {
    shared.tell_beginnings(Duration::ZERO);
    let session = shared.session();
    let left = until.saturating_duration_since(Instant::now()).max(SLACK);
    match timeout(left, shared.tasks().close_session(&session)).await {
        Ok(Ok(moved)) => {
            let now = shared.sink.now();
            shared.sink.emit_all(moved.iter().map(|moved| omniq_model::TaskEvent {
                lane: moved.lane.clone(),
                attempt: moved.attempt,
                session: Some(session.id),
                ..event::event(moved.id, moved.fence, EventKind::Released, now)
            }));
            tracing::info!(session = %session.id, put_back = moved.len(), "the worker has stopped");
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "the session could not be closed; it ends with its lease");
        }
        Err(_) => tracing::warn!("the session could not be closed in time; it ends with its lease"),
    }
}
