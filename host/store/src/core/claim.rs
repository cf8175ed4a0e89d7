//! How ready tasks are leased.

use std::sync::Arc;

use omniq_model::{SessionId, State, Task, Timestamp, Token};

use super::Core;
use super::slot::Ix;
use super::time::expired;
use crate::{Lease, Session, Want};

impl Core {
    /// See [`TaskStore::claim`](crate::TaskStore::claim).
    pub fn claim(&mut self, now: Timestamp, session: &Session, wants: &[Want]) -> Vec<Lease> {
        let mut leases = Vec::new();
        if self.sessions.lives(session.id, now) {
            for want in wants {
                self.claim_lane(now, session.id, want, &mut leases);
            }
        }
        leases
    }

    fn claim_lane(
        &mut self,
        now: Timestamp,
        session: SessionId,
        want: &Want,
        leases: &mut Vec<Lease>,
    ) {
        let Some(lane) = self.lanes.find(&want.lane) else { return };
        let (mut left, mut bytes) = (want.max, 0_usize);
        while left > 0
            && let Some(ix) = self.lanes.first_ready(lane)
        {
            if self.slots[ix].expires_now().is_some_and(|expires| expires <= now) {
                // Each task goes this way once, so that it is paid for by its enqueue.
                self.end_without(now, ix, State::Expired, expired());
            } else {
                if want.bytes < usize::MAX {
                    bytes = bytes.saturating_add(stored_len(&self.slots[ix].task));
                    if left < want.max && bytes > want.bytes {
                        break;
                    }
                }
                leases.push(self.lease(now, session, ix, want.nonce));
                left -= 1;
            }
        }
    }

    fn lease(&mut self, now: Timestamp, session: SessionId, ix: Ix, nonce: u64) -> Lease {
        self.enter(ix, State::Running, |slot| {
            slot.token = Token { fence: slot.token.fence + 1, nonce };
            slot.committed = false;
            slot.session = Some(session);
            slot.attempt = slot.attempt.saturating_add(1);
            slot.started = Some(now);
        });
        let slot = &self.slots[ix];
        Lease {
            id: slot.id,
            token: slot.token,
            attempt: slot.attempt,
            crashes: slot.crashes,
            created: slot.created,
            task: Ok(Arc::clone(&slot.task)),
        }
    }
}

/// How many bytes a task's stored form has, wherever its arguments are.
fn stored_len(task: &Task) -> usize {
    #[cfg(any(feature = "nats", feature = "object"))]
    return crate::log::outside::whole_len(task);
    #[cfg(not(any(feature = "nats", feature = "object")))]
    task.encoded_len()
}
