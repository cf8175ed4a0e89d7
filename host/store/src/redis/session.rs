//! Sessions: who is alive, what each holds, and the calls about it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use omniq_model::{SessionId, TaskId, Token};

use super::fault::Result;
use super::server::Store;
use super::wire::{self, Bytes};
use super::{reply, script};
use crate::{Beat, FENCE_STEP, Held, Moved, Session};

/// Leases that one script looks at or puts back.
const MOST: usize = 500;
const PUT_BACK: usize = 100;

/// What a session holds, as a script tells it.
struct Holds {
    id: TaskId,
    token: Token,
    cancel: bool,
}

impl Store {
    /// See [`TaskStore::open_session`](crate::TaskStore::open_session).
    pub(super) async fn open_session(&self, id: SessionId, lease: Duration) -> Result<Session> {
        let millis = wire::millis(lease).to_string();
        self.look(&script::OPEN_SESSION, &[&wire::session(id), millis.as_bytes()]).await?;
        Ok(Session { id, lease })
    }

    /// See [`TaskStore::close_session`](crate::TaskStore::close_session).
    pub(super) async fn close_session(&self, id: SessionId) -> Result<Vec<Moved>> {
        let mut moved = self.reconcile(id, &[]).await?;
        // A claim that is under way may give it something more.
        while reply::int(&self.look(&script::CLOSE_SESSION, &[&wire::session(id)]).await?)? == 0 {
            moved.extend(self.reconcile(id, &[]).await?);
        }
        Ok(moved)
    }

    /// See [`TaskStore::heartbeat`](crate::TaskStore::heartbeat).
    pub(super) async fn heartbeat(&self, of: Session, held: Held) -> Result<Beat> {
        let lease = i64::try_from(wire::millis(of.lease)).unwrap_or(i64::MAX);
        let Some(holds) = self.holds(of.id, lease).await? else { return Ok(Beat::Dead) };
        let leases: Vec<_> = holds.iter().map(|lease| (lease.id, lease.token)).collect();
        let cancel = holds.iter().filter(|lease| lease.cancel);
        let cancel = cancel.map(|lease| (lease.id, lease.token)).collect();
        Ok(Beat::Alive { matches: Held::of(&leases) == held, cancel })
    }

    /// What a session holds, in the order of arrival, after it was kept alive for `lease` milliseconds (-1: it was not);
    /// `None`: it is dead.
    async fn holds(&self, id: SessionId, lease: i64) -> Result<Option<Vec<Holds>>> {
        let most = MOST.to_string();
        let (mut lease, mut after, mut holds) = (lease, Vec::new(), Vec::new());
        loop {
            let millis = lease.to_string();
            let args: [&[u8]; 4] = [&wire::session(id), millis.as_bytes(), &after, most.as_bytes()];
            let mut values = reply::list(self.look(&script::HEARTBEAT, &args).await?)?.into_iter();
            if values.next().map(|value| reply::int(&value)).transpose()? != Some(1) {
                return Ok(None);
            }
            after = values.next().map(reply::bytes).transpose()?.unwrap_or_default();
            for value in values {
                let bytes = reply::bytes(value)?;
                let mut bytes = Bytes(&bytes);
                let (id, token) = (bytes.id()?, bytes.token()?);
                holds.push(Holds { id, token, cancel: bytes.byte()? != 0 });
            }
            if after.is_empty() {
                return Ok(Some(holds));
            }
            lease = -1;
        }
    }

    /// See [`TaskStore::cancels`](crate::TaskStore::cancels).
    pub(super) async fn cancels(&self, id: SessionId) -> Result<Vec<(TaskId, Token)>> {
        let answer = self.look(&script::CANCELS, &[&wire::session(id)]).await?;
        let lease = |bytes: Vec<u8>| {
            let mut bytes = Bytes(&bytes);
            Ok((bytes.id()?, bytes.token()?))
        };
        reply::all_bytes(answer)?.into_iter().map(lease).collect()
    }

    /// See [`TaskStore::reconcile`](crate::TaskStore::reconcile).
    pub(super) async fn reconcile(
        &self,
        id: SessionId,
        held: &[(TaskId, Token)],
    ) -> Result<Vec<Moved>> {
        let known: HashSet<_> = held.iter().copied().collect();
        let holds = self.holds(id, -1).await?.unwrap_or_default();
        let lost = holds.iter().map(|lease| (lease.id, lease.token));
        let lost: Vec<_> = lost.filter(|lease| !known.contains(lease)).collect();
        let mut moved = Vec::with_capacity(lost.len());
        for part in lost.chunks(PUT_BACK) {
            let claims: Vec<_> = part.iter().map(|(id, token)| wire::claim(*id, *token)).collect();
            let session = wire::session(id);
            let mut args: Vec<&[u8]> = vec![&session];
            args.extend(claims.iter().map(Vec::as_slice));
            let [said, told] = reply::parts(self.change(&script::PUT_BACK, &args).await?)?;
            self.committed(&said).await?;
            moved.extend(read_moves(told)?);
        }
        Ok(moved)
    }
}

/// A part of what [`Admin::restored`](crate::Admin::restored) does, which the server runs as one each. A process that dies in
/// between has told nobody that it is done, and to do all of it again is safe.
impl Store {
    /// Raises the fences of what waits.
    pub(super) async fn raise_fences(&self) -> Result<()> {
        let (step, most) = (FENCE_STEP.to_string(), MOST.to_string());
        let mut after = Vec::new();
        loop {
            let args: [&[u8]; 3] = [step.as_bytes(), &after, most.as_bytes()];
            after = reply::bytes(self.look(&script::RAISE, &args).await?)?;
            if after.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends all sessions there are, also those that are only known by what they hold. What they hold goes back, and its
    /// fence rises. Those that are opened meanwhile live.
    pub(super) async fn void_sessions(&self) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for session in self.sessions().await? {
            let (step, most) = (FENCE_STEP.to_string(), PUT_BACK.to_string());
            let args: [&[u8]; 3] = [&session, step.as_bytes(), most.as_bytes()];
            loop {
                let answer = self.change(&script::VOID_SESSION, &args).await?;
                let [said, told, is_gone] = reply::parts(answer)?;
                self.committed(&said).await?;
                moved.extend(read_moves(told)?);
                if reply::int(&is_gone)? == 1 {
                    break;
                }
            }
        }
        Ok(moved)
    }

    async fn sessions(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut sessions: BTreeSet<Vec<u8>> =
            reply::all_bytes(self.look(&script::HOLDERS, &[]).await?)?.into_iter().collect();
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.key("session")).arg(0).arg(-1);
        sessions.extend(reply::all_bytes(self.link.query(&command).await?)?);
        Ok(sessions)
    }
}

/// Moves as scripts tell them.
pub(super) fn read_moves(told: redis::Value) -> Result<Vec<Moved>> {
    reply::all_bytes(told)?.iter().map(|bytes| wire::moved(bytes)).collect()
}
