//! How much there is of what.

use omniq_model::{Lane, State, Timestamp};

use super::Core;
use crate::{Filter, Stats, WorkerSeen};

impl Core {
    /// See [`Admin::stats`](crate::Admin::stats). It knows no names of workers and no bytes.
    pub fn stats(&self, now: Timestamp) -> Stats {
        let mut paused: Vec<Lane> =
            self.lanes.iter().filter(|lane| lane.paused).map(|lane| lane.name.clone()).collect();
        paused.sort_unstable();
        let workers = self.sessions.alive(now).map(|(session, until, holds)| WorkerSeen {
            session,
            name: String::new(),
            until,
            holds,
        });
        let ready = self.by_state[usize::from(State::Ready.number())].values().next();
        let at = |entry: Option<(&(Timestamp, _), _)>| entry.map(|(key, _)| key.0);
        Stats {
            counts: self.count(&Filter::default()),
            paused,
            workers: workers.collect(),
            oldest_ready: ready.map(|ix| self.slots[*ix].created),
            history: at(self.ended.first_key_value()).zip(at(self.ended.last_key_value())),
            bytes: Vec::new(),
        }
    }
}
