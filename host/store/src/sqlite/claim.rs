//! How ready tasks are leased.

use std::collections::{HashMap, HashSet};

use omniq_model::{
    DecodeError, Kind, Lane, SessionId, State, Task, TaskError, TaskId, Timestamp, Token,
};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::fault::Result;
use super::leased::Leased;
use super::live::{Live, session, small, task_id};
use super::pack::{Pack, numbers, packed};
use super::plan::Plan;
use super::tx::Tx;
use crate::{Lease, Want};

/// What one caller asked for.
#[derive(Debug)]
pub(super) struct Claim {
    pub session: SessionId,
    pub wants: Vec<Want>,
}

/// A lease before its task is decoded, which the caller does: the writer has other things to do.
#[derive(Debug)]
pub(super) struct RawLease {
    id: TaskId,
    token: Token,
    attempt: u32,
    crashes: u32,
    created: Timestamp,
    bytes: Vec<u8>,
}

impl RawLease {
    pub(super) fn into_lease(self) -> Lease {
        Lease {
            id: self.id,
            token: self.token,
            attempt: self.attempt,
            crashes: self.crashes,
            created: self.created,
            task: decode(&self.bytes),
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> std::result::Result<std::sync::Arc<Task>, DecodeError> {
    Task::decode(bytes).map(std::sync::Arc::new)
}

/// A ready task, as far as a claim looks at it.
struct Candidate {
    seq: i64,
    id: TaskId,
    attempt: i64,
    crashes: i64,
    fence: i64,
    created: i64,
    /// Its time to live is over.
    over: bool,
    keyed: bool,
    bytes: Vec<u8>,
}

impl Candidate {
    /// Reads a row of [`Tx::ready`].
    fn read(row: &SqliteRow) -> Result<Self> {
        let (tries, fence): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Self {
            seq: row.try_get(0)?,
            id: task_id(row.try_get(1)?)?,
            attempt: tries & 0xffff_ffff,
            crashes: tries.cast_unsigned().wrapping_shr(32).cast_signed(),
            fence: fence >> 2,
            over: fence & 2 != 0,
            keyed: fence & 1 != 0,
            created: row.try_get(4)?,
            bytes: row.try_get(5)?,
        })
    }
}

/// Claims that were decided and not yet written.
#[derive(Default)]
struct Taken {
    /// By number, nonce and session.
    rows: Vec<(i64, i64, i64)>,
    keyed: Vec<i64>,
}

impl Taken {
    fn lease(&mut self, task: Candidate, holder: SessionId, nonce: u64) -> RawLease {
        self.rows.push((task.seq, nonce.cast_signed(), session(holder)));
        if task.keyed {
            self.keyed.push(task.seq);
        }
        RawLease {
            id: task.id,
            token: Token { fence: (task.fence + 1).cast_unsigned(), nonce },
            attempt: small(task.attempt.saturating_add(1)),
            crashes: small(task.crashes),
            created: Timestamp::from_millis(task.created),
            bytes: task.bytes,
        }
    }
}

/// Of which caller's claim, for whom, under which nonce.
type Place = (usize, SessionId, u64);

impl Tx<'_> {
    /// See [`TaskStore::claim`](crate::TaskStore::claim); several callers' claims in turn.
    pub(super) async fn claim(&mut self, claims: &[&Claim]) -> Result<Vec<Vec<RawLease>>> {
        let alive = self.alive(claims.iter().map(|claim| claim.session)).await?;
        let mut answers: Vec<Vec<RawLease>> = claims.iter().map(|_| Vec::new()).collect();
        let wants = claims.iter().enumerate().flat_map(|(index, claim)| {
            let place = move |want: &Want| (index, claim.session, want.nonce);
            claim.wants.iter().map(move |want| (place(want), want))
        });
        let mut wants = wants.filter(|((_, id, _), _)| alive.contains(id)).peekable();
        // Neighbours that want the same lane are served by one statement.
        while let Some((place, want)) = wants.next() {
            let mut places = vec![(place, want.max)];
            while let Some((place, next)) = wants.next_if(|(_, next)| next.lane == want.lane) {
                places.push((place, next.max));
            }
            self.claim_lane(&want.lane, places, &mut answers).await?;
        }
        Ok(answers)
    }

    /// Which of these sessions live.
    pub(super) async fn alive(
        &mut self,
        ids: impl Iterator<Item = SessionId>,
    ) -> Result<HashSet<SessionId>> {
        const ALIVE: &str = "
            select id from omniq_session
             where id in (select value from json_each(?1)) and expires >= ?2";
        let ids: HashMap<i64, SessionId> = ids.map(|id| (session(id), id)).collect();
        let alive: Vec<i64> = sqlx::query_scalar(ALIVE)
            .bind(numbers(ids.keys().copied()))
            .bind(self.now.as_millis())
            .fetch_all(&mut *self.conn)
            .await?;
        Ok(alive.iter().filter_map(|id| ids.get(id).copied()).collect())
    }

    async fn claim_lane(
        &mut self,
        lane: &Lane,
        places: Vec<(Place, usize)>,
        answers: &mut [Vec<RawLease>],
    ) -> Result<()> {
        let Some(lane) = self.names.find_lane(self.conn, lane).await? else { return Ok(()) };
        let mut left: usize = places.iter().fold(0, |sum, (_, max)| sum.saturating_add(*max));
        let mut places =
            places.into_iter().flat_map(|(place, max)| std::iter::repeat_n(place, max));
        while left > 0 {
            let size = left.min(1000); // so that a claim for everything does not hold everything in memory twice
            let ready = self.ready(lane, size).await?;
            let full = ready.len() == size;
            let expired = self.take(lane, ready, &mut places, &mut left, answers).await?;
            if !full && !expired {
                break;
            }
        }
        Ok(())
    }

    async fn ready(&mut self, lane: i64, max: usize) -> Result<Vec<Candidate>> {
        // Each column of each row is copied on its way here, so that small numbers share one.
        const READY: &str = "
            select t.seq, t.id, (t.crashes << 32) | t.attempt,
                   (t.fence << 2) | ((t.attempt = 0 and ifnull(t.expires <= ?3, 0)) << 1) | (t.flags & 1), t.created, b.bytes
              from omniq_task t cross join omniq_body b on b.seq = t.seq
             where t.state = 2 and t.lane = ?1
               and not exists(select 1 from omniq_lane l where l.id = ?1 and l.paused = 1)
             order by t.rank, t.seq limit ?2";
        let rows = sqlx::query(READY)
            .bind(lane)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .bind(self.now.as_millis())
            .fetch_all(&mut *self.conn)
            .await?;
        rows.iter().map(Candidate::read).collect()
    }

    /// Leases these in their order; tells whether some were past their time to live, which ends the walk when that may
    /// have made others ready.
    async fn take(
        &mut self,
        lane: i64,
        ready: Vec<Candidate>,
        places: &mut impl Iterator<Item = Place>,
        left: &mut usize,
        answers: &mut [Vec<RawLease>],
    ) -> Result<bool> {
        let over: Vec<i64> = ready.iter().filter(|task| task.over).map(|task| task.seq).collect();
        let over = if over.is_empty() { Vec::new() } else { self.live(&over).await? };
        let mut over: HashMap<i64, Live> = over.into_iter().map(|live| (live.seq, live)).collect();
        let any_over = !over.is_empty();
        let mut plan = Plan::default();
        let mut taken = Taken::default();
        for task in ready {
            if let Some(live) = over.remove(&task.seq) {
                let awaited = live.awaited;
                plan.end_without(self, live, State::Expired, expired()).await?;
                if awaited {
                    break;
                }
                continue;
            }
            let Some((index, session, nonce)) = places.next() else { break };
            *left -= 1;
            self.moves(lane, State::Ready, State::Running);
            let (seq, keyed) = (task.seq, task.keyed);
            let lease = taken.lease(task, session, nonce);
            if !keyed {
                self.names.leases.add(lease.id, lease.token, Leased { seq, lane });
            }
            answers[index].push(lease);
        }
        self.write_taken(taken).await?;
        plan.write(self).await?;
        Ok(any_over)
    }

    async fn write_taken(&mut self, taken: Taken) -> Result<()> {
        // A key that is taken until its task starts.
        const FREE: &str = "
            delete from omniq_ukey where scope = 0 and holder in (select value from json_each(?1))";
        match taken.rows.as_slice() {
            [] => return Ok(()),
            [first, rest @ ..] if rest.iter().all(|row| row.1 == first.1 && row.2 == first.2) => {
                self.take_for_one(&taken.rows, first.1, first.2).await?;
            }
            rows => self.take_for_many(rows).await?,
        }
        if !taken.keyed.is_empty() {
            sqlx::query(FREE).bind(numbers(taken.keyed)).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// A quarter cheaper than [`Self::take_for_many`], and what a worker that claims many at once asks for.
    async fn take_for_one(
        &mut self,
        rows: &[(i64, i64, i64)],
        nonce: i64,
        session: i64,
    ) -> Result<()> {
        const TAKE: &str = "
            update omniq_task set state = 3, fence = fence + 1, attempt = min(attempt + 1, 4294967295),
                   nonce = ?2, session = ?3, started = ?4
             where seq in (select value from json_each(?1))";
        sqlx::query(TAKE)
            .bind(numbers(rows.iter().map(|row| row.0)))
            .bind(nonce)
            .bind(session)
            .bind(self.now.as_millis())
            .execute(&mut *self.conn)
            .await?;
        Ok(())
    }

    async fn take_for_many(&mut self, rows: &[(i64, i64, i64)]) -> Result<()> {
        packed!(
            TAKE,
            3,
            "update omniq_task set state = 3, fence = fence + 1, attempt = min(attempt + 1, 4294967295),
                    nonce = v.nonce, session = v.session, started = ?4
               from (select {0} as seq, {1} as nonce, {2} as session from {rows}) v
              where omniq_task.seq = v.seq"
        );
        let mut pack = Pack::default();
        for (seq, nonce, session) in rows {
            pack.row(&[(*seq).into(), (*nonce).into(), (*session).into()]);
        }
        pack.query(&TAKE).bind(self.now.as_millis()).execute(&mut *self.conn).await?;
        Ok(())
    }
}

/// Why a task that was not started in time has no result.
pub(super) fn expired() -> TaskError {
    TaskError::new(Kind::Expired, "it did not start within its time to live")
}
