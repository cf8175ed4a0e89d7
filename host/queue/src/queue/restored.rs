//! After a backup was put back: whatever was claimed from it since then is of another time.

use omniq_model::{EventKind, TaskEvent};
use omniq_store::{Moved, Restored};

use super::Queue;
use crate::error::Result;
use crate::event::event;

impl Queue {
    /// Says that the store of tasks was put back from a backup: every session is over, what ran is ready again without an
    /// attempt being counted (or cancelled, where somebody wanted that), and every lease that was given before is void. The
    /// fences of tasks that were claimed before and have not ended rise by a million, so that none is given twice.
    ///
    /// Workers that are alive open new sessions, and what they ran runs again. It may be called again, and is to be when
    /// it failed.
    ///
    /// # Errors
    /// The store failed; some of it may have been done.
    pub async fn restored(&self) -> Result<Restored> {
        let tasks = &self.shared().stores.tasks;
        let backend = tasks.caps().name;
        let admin = tasks
            .admin()
            .ok_or(omniq_store::Error::Unsupported { backend, action: "be put back" })?;
        let restored = admin.restored().await?;
        self.tell_restored(&restored.moved);
        Ok(restored)
    }

    /// Lets those hear of it who wait for ends or read the log.
    fn tell_restored(&self, moved: &[Moved]) {
        let shared = self.shared();
        shared.ends.publish(moved.iter().map(|moved| (moved.id, moved.to)));
        if !shared.events.is_on() {
            return;
        }
        let now = shared.events.now();
        let event_of = |moved: &Moved, kind| TaskEvent {
            lane: moved.lane.clone(),
            attempt: moved.attempt,
            ..event(moved.id, moved.fence, kind, now)
        };
        shared.events.emit_all(moved.iter().flat_map(|moved| {
            let end = EventKind::of_end(moved.to);
            [Some(EventKind::Released), end].into_iter().flatten().map(|kind| event_of(moved, kind))
        }));
    }
}
