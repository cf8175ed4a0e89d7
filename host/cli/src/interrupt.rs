//! Ctrl-C stops the guest, not the process: the run still reports what it has used.

use std::process;
use std::thread;

use omniq_sandbox::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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
            console::note("stopping; once more to end at once\n");
            cancel.cancel();
        }
    };
    // Without the thread nobody would see the signals: it is started before they are caught for good.
    if thread::Builder::new().name(String::from("omniq-signals")).spawn(watch).is_err() {
        console::warning("Ctrl-C cannot be caught");
    }
}
