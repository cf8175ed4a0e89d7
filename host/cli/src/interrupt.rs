//! Ctrl-C, and being asked to end: the first one asks whatever is under way to come to a good end, the second one ends
//! the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use omniq_sandbox::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

use crate::output::console;

/// Cancels `cancel` at the first Ctrl-C, or when the process is asked to end; the second one ends it at once.
///
/// Where signals cannot be caught they keep their usual meaning, which is to end the process.
pub fn cancels(cancel: &Cancel) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    let cancel = cancel.clone();
    let watch = move || {
        for signal in signals.forever() {
            if cancel.is_cancelled() {
                process::exit(128 + signal);
            }
            cancel.cancel();
            tell("stopping; once more to end at once\n");
        }
    };
    // Without the thread nobody would see the signals: it is started before they are caught for good.
    if thread::Builder::new().name(String::from("omniq-signals")).spawn(watch).is_err() {
        console::warning("Ctrl-C cannot be caught");
    }
}

/// Says it without waiting for whoever reads stderr: one that stands still must not keep the next signal from being seen.
fn tell(note: &'static str) {
    // Where there is no thread for it, nothing is said.
    let _ = thread::Builder::new().spawn(move || console::note(note));
}

/// Whether the process was asked to end. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// The first signal; 0 while there was none.
    signal: AtomicI32,
    notify: Notify,
}

impl Stop {
    /// Is asked by Ctrl-C or SIGTERM, and writes `note` then unless it is empty; the second one ends the process at once.
    ///
    /// Where signals cannot be caught they keep their usual meaning, which is to end the process.
    pub fn on_signals(note: &'static str) -> Self {
        let stop = Self::default();
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return stop };
        let asked = stop.clone();
        let watch = move || {
            for signal in signals.forever() {
                if asked.is_asked() {
                    process::exit(128 + signal);
                }
                asked.0.signal.store(signal, Ordering::SeqCst);
                asked.0.notify.notify_waiters();
                if !note.is_empty() {
                    tell(note);
                }
            }
        };
        if thread::Builder::new().name(String::from("omniq-signals")).spawn(watch).is_err() {
            console::warning("Ctrl-C cannot be caught");
        }
        stop
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        self.0.signal.load(Ordering::SeqCst) != 0
    }

    /// Waits until it is asked.
    pub async fn asked(&self) {
        let notified = self.0.notify.notified();
        // Registered first, so that a signal between the two is not missed.
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if !self.is_asked() {
            notified.await;
        }
    }
}
