//! Sessions: who is alive, what each holds, and the calls about it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use omniq_model::{SessionId, State, TaskId, Timestamp, Token};

use super::Core;
use super::slot::{Ix, Slot};
use crate::traits::raised;
use crate::{Beat, Held, Moved, Session};

#[derive(Debug, Default)]
pub(super) struct Holding {
    expires: Timestamp,
    /// What it holds, in the order of arrival.
    pub held: BTreeMap<u64, Ix>,
    /// What of that somebody wants stopped.
    pub cancels: BTreeMap<u64, Ix>,
    pub fingerprint: Held,
}

/// All sessions that live or still hold something.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: HashMap<SessionId, Holding>,
    by_expiry: BTreeSet<(Timestamp, SessionId)>,
}

impl Sessions {
    pub(super) fn lives(&self, id: SessionId, now: Timestamp) -> bool {
        self.all.get(&id).is_some_and(|session| now <= session.expires)
    }

    /// Keeps a session alive that lives; tells whether it does.
    fn renew(&mut self, id: SessionId, now: Timestamp, lease: Duration) -> bool {
        let Some(session) = self.all.get_mut(&id).filter(|session| now <= session.expires) else {
            return false;
        };
        self.by_expiry.remove(&(session.expires, id));
        session.expires = now + lease;
        self.by_expiry.insert((session.expires, id));
        true
    }

    fn open(&mut self, id: SessionId, now: Timestamp, lease: Duration) {
        if self.all.contains_key(&id) {
            self.renew(id, now, lease);
            return;
        }
        let expires = now + lease;
        self.all.insert(id, Holding { expires, ..Holding::default() });
        self.by_expiry.insert((expires, id));
    }

    fn spare(&mut self, before: Timestamp, leapt: Duration) {
        let living = self.by_expiry.split_off(&(before, SessionId::new(0)));
        for (expires, id) in living {
            let expires = expires + leapt;
            self.by_expiry.insert((expires, id));
            if let Some(session) = self.all.get_mut(&id) {
                session.expires = expires;
            }
        }
    }

    fn close_all(&mut self) {
        self.all.clear();
        self.by_expiry.clear();
    }

    fn close(&mut self, id: SessionId) {
        if let Some(session) = self.all.remove(&id) {
            self.by_expiry.remove(&(session.expires, id));
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Holding> {
        self.all.get(&id)
    }

    /// Sessions that live: until when, and how much each holds.
    pub(super) fn alive(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (SessionId, Timestamp, u64)> + '_ {
        let lives = self.by_expiry.range((now, SessionId::new(0))..);
        lives.filter_map(|(until, id)| Some((*id, *until, self.all.get(id)?.fingerprint.count)))
    }

    /// Sessions whose lease is over.
    pub(super) fn dead(&self, now: Timestamp) -> impl Iterator<Item = (SessionId, &Holding)> {
        let over = self.by_expiry.range(..(now, SessionId::new(0)));
        over.filter_map(|(_, id)| Some((*id, self.all.get(id)?)))
    }

    /// Forgets sessions whose lease is over and that hold nothing.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        let empty = self.dead(now).filter(|(_, session)| session.held.is_empty());
        for id in empty.map(|(id, _)| id).collect::<Vec<_>>() {
            self.close(id);
        }
    }

    /// A running task belongs to its session.
    pub(super) fn hold(&mut self, ix: Ix, slot: &Slot) {
        let Some(session) = slot.session.and_then(|id| self.all.get_mut(&id)) else { return };
        session.held.insert(slot.seq, ix);
        session.fingerprint.toggle(slot.id, slot.token, true);
        if slot.cancel_requested {
            session.cancels.insert(slot.seq, ix);
        }
    }

    /// The reverse of [`Self::hold`].
    pub(super) fn let_go(&mut self, slot: &Slot) {
        let Some(session) = slot.session.and_then(|id| self.all.get_mut(&id)) else { return };
        session.held.remove(&slot.seq);
        session.fingerprint.toggle(slot.id, slot.token, false);
        session.cancels.remove(&slot.seq);
    }

    /// Somebody wants a running task stopped.
    pub(super) fn call_off(&mut self, ix: Ix, slot: &Slot) {
        if let Some(session) = slot.session.and_then(|id| self.all.get_mut(&id)) {
            session.cancels.insert(slot.seq, ix);
        }
    }

    /// Until when each lives, by its id.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn expiries(&self) -> Vec<(SessionId, Timestamp)> {
        let mut all: Vec<_> = self.all.iter().map(|(id, held)| (*id, held.expires)).collect();
        all.sort_unstable();
        all
    }

    /// Takes a session as an image says.
    #[cfg(any(feature = "nats", feature = "object"))]
    pub(super) fn restore(&mut self, id: SessionId, expires: Timestamp) {
        self.all.insert(id, Holding { expires, ..Holding::default() });
        self.by_expiry.insert((expires, id));
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionId, &Holding)> {
        self.all.iter()
    }
}

impl Core {
    /// See [`TaskStore::open_session`](crate::TaskStore::open_session).
    pub fn open_session(&mut self, now: Timestamp, id: SessionId, lease: Duration) -> Session {
        self.sessions.open(id, now, lease);
        Session { id, lease }
    }

    /// The clock has leapt to `now`: sessions that lived before live on as if that time had not been. See
    /// [`Clock::leapt`](crate::Clock::leapt).
    pub fn spare(&mut self, now: Timestamp, leapt: Duration) {
        self.sessions.spare(now - leapt, leapt);
    }

    /// See [`TaskStore::close_session`](crate::TaskStore::close_session).
    pub fn close_session(&mut self, now: Timestamp, session: &Session) -> Vec<Moved> {
        let moved = self.reconcile(now, session, &[]);
        self.sessions.close(session.id);
        moved
    }

    /// See [`TaskStore::heartbeat`](crate::TaskStore::heartbeat).
    pub fn heartbeat(&mut self, now: Timestamp, session: &Session, held: Held) -> Beat {
        if !self.sessions.renew(session.id, now, session.lease) {
            return Beat::Dead;
        }
        let matches =
            self.sessions.get(session.id).is_some_and(|holding| holding.fingerprint == held);
        Beat::Alive { matches, cancel: self.cancels(session) }
    }

    /// See [`TaskStore::cancels`](crate::TaskStore::cancels).
    pub fn cancels(&self, session: &Session) -> Vec<(TaskId, Token)> {
        let holding = self.sessions.get(session.id);
        let cancels = holding.into_iter().flat_map(|holding| holding.cancels.values());
        cancels.map(|ix| &self.slots[*ix]).map(|slot| (slot.id, slot.token)).collect()
    }

    /// See [`TaskStore::reconcile`](crate::TaskStore::reconcile).
    pub fn reconcile(
        &mut self,
        now: Timestamp,
        session: &Session,
        held: &[(TaskId, Token)],
    ) -> Vec<Moved> {
        let known: BTreeSet<_> = held.iter().copied().collect();
        let holding = self.sessions.get(session.id);
        let lost: Vec<Ix> = holding
            .into_iter()
            .flat_map(|holding| holding.held.values().copied())
            .filter(|ix| {
                let slot = &self.slots[*ix];
                !known.contains(&(slot.id, slot.token))
            })
            .collect();
        lost.into_iter().map(|ix| self.give_back(now, ix)).collect()
    }

    /// Puts a running task back as if it had not been claimed.
    fn give_back(&mut self, now: Timestamp, ix: Ix) -> Moved {
        self.put_back(now, ix, now, |slot| slot.attempt = slot.attempt.saturating_sub(1));
        self.slots[ix].moved(State::Running)
    }

    /// See [`Admin::restored`](crate::Admin::restored).
    pub fn restored(&mut self, now: Timestamp) -> Vec<Moved> {
        let running = self.by_state[usize::from(State::Running.number())].values();
        let running: Vec<Ix> = running.copied().collect();
        let moved = running.into_iter().map(|ix| self.give_back(now, ix)).collect();
        self.sessions.close_all();
        for state in [State::Blocked, State::Scheduled, State::Ready] {
            for ix in self.by_state[usize::from(state.number())].values() {
                let slot = &mut self.slots[*ix];
                slot.token = Token { fence: raised(slot.token.fence), nonce: 0 };
                slot.committed = false;
            }
        }
        moved
    }
}
