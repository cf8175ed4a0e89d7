//! Everything in this process's memory: for tests, for trying things out, and for work that need not outlive the process.
//!
//! Good at: speed, and nothing to set up. Bad at: all is gone when the process ends, no other process sees it, and every
//! call waits for the one before, which a list or count by labels over millions of tasks makes long. Limit: memory, about
//! one kilobyte for a task that waits and one and a half for one that has ended, large arguments and results beside.
//! There is no server and no version.

mod events;
mod modules;
mod results;
mod tasks;

pub use events::MemoryEvents;
pub use modules::MemoryModules;
pub use results::MemoryResults;
pub use tasks::MemoryTasks;

use std::sync::{Mutex, MutexGuard};

use crate::{Error, Result};

/// Locks a store. A panic in the middle of a change may have left it half done, so nobody is let in after one.
fn lock<T>(state: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    state.lock().map_err(|_| Error::Corrupt {
        place: "the memory store".to_owned(),
        reason: "a panic interrupted a change of it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn after_a_panic_in_a_change_nobody_is_let_in() {
        let state = Mutex::new(0);
        std::thread::scope(|scope| {
            let change = scope.spawn(|| {
                let _locked = lock(&state).unwrap();
                panic!("on purpose");
            });
            assert!(change.join().is_err());
        });
        assert_eq!(lock(&state).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
