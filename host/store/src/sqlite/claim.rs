//! How ready tasks are leased.

use std::collections::{HashMap, HashSet, VecDeque};

use omniq_model::{
    DecodeError, Kind, Lane, SessionId, State, Task, TaskError, TaskId, Timestamp, Token,
};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::fault::{Fault, Result};
use super::leased::Leased;
use super::live::{Live, session, small};
use super::pack::{Pack, numbers, packed, runs};
use super::plan::Plan;
use super::tx::Tx;
use crate::{Lease, Want, hex};

/// Bytes of a body that comes as text with its row.
const INLINE: usize = 2048;

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
    /// The length of its body.
    size: usize,
    /// Its body, unless that is larger than asked for.
    bytes: Option<Vec<u8>>,
}

impl Candidate {
    /// Reads a line of [`Tx::ready`].
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut number = || fields.next()?.parse::<i64>().ok();
        let (seq, tries, fence, created, size) =
            (number()?, number()?, number()?, number()?, number()?);
        let id = hex::decode(fields.next()?)?.try_into().ok()?;
        let bytes = fields.next()?;
        Some(Self {
            seq,
            id: TaskId::from_bytes(id),
            attempt: tries & 0xffff_ffff,
            crashes: tries.cast_unsigned().wrapping_shr(32).cast_signed(),
            fence: fence >> 2,
            over: fence & 2 != 0,
            keyed: fence & 1 != 0,
            created,
            size: usize::try_from(size).unwrap_or(usize::MAX),
            bytes: if bytes == "-" { None } else { Some(hex::decode(bytes)?) },
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
    fn lease(
        &mut self,
        task: Candidate,
        bytes: Vec<u8>,
        holder: SessionId,
        nonce: u64,
    ) -> RawLease {
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
            bytes,
        }
    }
}

/// A want, and what it was given so far.
struct Place {
    /// Of which caller's claim.
    index: usize,
    session: SessionId,
    nonce: u64,
    /// Tasks it may still be given.
    left: usize,
    /// Bytes it may still be given.
    bytes: usize,
    is_first: bool,
}

impl Place {
    fn new(index: usize, session: SessionId, want: &Want) -> Self {
        let Want { max, bytes, nonce, .. } = *want;
        Self { index, session, nonce, left: max, bytes, is_first: true }
    }

    /// Whether it is given a task of that size; it takes it then.
    fn takes(&mut self, size: usize) -> bool {
        if self.left == 0 || !self.is_first && size > self.bytes {
            self.left = 0;
            return false;
        }
        self.left -= 1;
        self.bytes = self.bytes.saturating_sub(size);
        self.is_first = false;
        true
    }
}

/// What is left to give to the wants of one lane.
struct Places(VecDeque<Place>);

impl Places {
    /// Tasks.
    fn left(&self) -> usize {
        self.0.iter().fold(0, |sum, place| sum.saturating_add(place.left))
    }

    /// Bytes.
    fn bytes(&self) -> usize {
        self.0.iter().fold(0, |sum, place| sum.saturating_add(place.bytes))
    }

    /// Whether no want looks at any more tasks: those behind are none of this claim's business, overdue or not.
    fn are_served(&mut self) -> bool {
        while self.0.front().is_some_and(|place| place.left == 0) {
            self.0.pop_front();
        }
        self.0.is_empty()
    }

    /// The want that is given a task of that size.
    fn next(&mut self, size: usize) -> Option<&Place> {
        while !self.0.front_mut()?.takes(size) {
            self.0.pop_front();
        }
        self.0.front()
    }
}

impl Tx<'_> {
    /// See [`TaskStore::claim`](crate::TaskStore::claim); several callers' claims in turn.
    pub(super) async fn claim(&mut self, claims: &[&Claim]) -> Result<Vec<Vec<RawLease>>> {
        let alive = self.alive(claims.iter().map(|claim| claim.session)).await?;
        let mut answers: Vec<Vec<RawLease>> = claims.iter().map(|_| Vec::new()).collect();
        let wants = claims.iter().enumerate().flat_map(|(index, claim)| {
            claim.wants.iter().map(move |want| (Place::new(index, claim.session, want), want))
        });
        let mut wants = wants.filter(|(place, _)| alive.contains(&place.session)).peekable();
        // Neighbours that want the same lane are served by one statement.
        while let Some((place, want)) = wants.next() {
            let mut places = Places(VecDeque::from([place]));
            while let Some((place, _)) = wants.next_if(|(_, next)| next.lane == want.lane) {
                places.0.push_back(place);
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
        mut places: Places,
        answers: &mut [Vec<RawLease>],
    ) -> Result<()> {
        let Some(lane) = self.names.find_lane(self.conn, lane).await? else { return Ok(()) };
        while places.left() > 0 {
            let size = places.left().min(1000); // so that a claim for everything does not hold everything in memory twice
            let ready = self.ready(lane, size, places.bytes() / size).await?;
            let full = ready.len() == size;
            let expired = self.take(lane, ready, &mut places, answers).await?;
            if !full && !expired {
                break;
            }
        }
        Ok(())
    }

    /// The tasks whose turn is next, with those bodies that have at most `inline` bytes: others may be too many to read
    /// before it is known which are leased.
    async fn ready(&mut self, lane: i64, max: usize, inline: usize) -> Result<Vec<Candidate>> {
        // One value, since a row costs more on its way here than its text: each of its columns is copied.
        const READY: &str = "
            select group_concat(line, char(10)) from (
                select format('%d %d %d %d %d %s %s', t.seq, (t.crashes << 32) | t.attempt,
                              (t.fence << 2) | ((t.attempt = 0 and ifnull(t.expires <= ?3, 0)) << 1) | (t.flags & 1),
                              t.created, length(b.bytes), hex(t.id),
                              case when length(b.bytes) <= ?4 then hex(b.bytes) else '-' end) as line
                  from omniq_task t cross join omniq_body b on b.seq = t.seq
                 where t.state = 2 and t.lane = ?1
                   and not exists(select 1 from omniq_lane l where l.id = ?1 and l.paused = 1)
                 order by t.rank, t.seq limit +?2)";
        let lines: Option<String> = sqlx::query_scalar(READY)
            .bind(lane)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .bind(self.now.as_millis())
            .bind(i64::try_from(inline.min(INLINE)).unwrap_or(i64::MAX))
            .fetch_one(&mut *self.conn)
            .await?;
        let lines = lines.unwrap_or_default();
        let read = |line: &str| {
            let damaged = || Fault::Corrupt(format!("a ready task is `{line:.200}`"));
            Candidate::read(line).ok_or_else(damaged)
        };
        let mut ready = lines.lines().map(read).collect::<Result<Vec<_>>>()?;
        self.add_bodies(&mut ready, inline).await?;
        Ok(ready)
    }

    /// Adds the bodies that are too large for a line of text and small enough to be read all the same.
    async fn add_bodies(&mut self, ready: &mut [Candidate], inline: usize) -> Result<()> {
        const BODIES: &str =
            "select seq, bytes from omniq_body where seq in (select value from json_each(?1))";
        let wanted = ready.iter().filter(|task| task.bytes.is_none() && task.size <= inline);
        let wanted: Vec<i64> = wanted.map(|task| task.seq).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(BODIES).bind(numbers(wanted)).fetch_all(&mut *self.conn).await?;
        let body = |row: &SqliteRow| Ok((row.try_get::<i64, _>(0)?, row.try_get(1)?));
        let mut bodies: HashMap<i64, Vec<u8>> = rows.iter().map(body).collect::<Result<_>>()?;
        for task in ready {
            task.bytes = task.bytes.take().or_else(|| bodies.remove(&task.seq));
        }
        Ok(())
    }

    async fn large_body(&mut self, seq: i64) -> Result<Vec<u8>> {
        const BODY: &str = "select bytes from omniq_body where seq = ?1";
        Ok(sqlx::query_scalar(BODY).bind(seq).fetch_one(&mut *self.conn).await?)
    }

    /// Leases these in their order; tells whether some were past their time to live, which ends the walk when that may
    /// have made others ready.
    async fn take(
        &mut self,
        lane: i64,
        ready: Vec<Candidate>,
        places: &mut Places,
        answers: &mut [Vec<RawLease>],
    ) -> Result<bool> {
        let over: Vec<i64> = ready.iter().filter(|task| task.over).map(|task| task.seq).collect();
        let over = if over.is_empty() { Vec::new() } else { self.live(&over).await? };
        let mut over: HashMap<i64, Live> = over.into_iter().map(|live| (live.seq, live)).collect();
        let any_over = !over.is_empty();
        let mut plan = Plan::default();
        let mut taken = Taken::default();
        for mut task in ready {
            if places.are_served() {
                break;
            }
            if let Some(live) = over.remove(&task.seq) {
                let awaited = live.awaited;
                plan.end_without(self, live, State::Expired, expired()).await?;
                if awaited {
                    break;
                }
                continue;
            }
            let Some(place) = places.next(task.size) else { break };
            let bytes = match task.bytes.take() {
                Some(bytes) => bytes,
                None => self.large_body(task.seq).await?,
            };
            self.moves(lane, State::Ready, State::Running);
            let (seq, keyed) = (task.seq, task.keyed);
            let lease = taken.lease(task, bytes, place.session, place.nonce);
            if !keyed {
                self.names.leases.add(lease.id, lease.token, Leased { seq, lane });
            }
            answers[place.index].push(lease);
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
                   nonce = ?3, session = ?4, started = ?5
             where seq between ?1 and ?2";
        const TAKE_EACH: &str = "
            update omniq_task set state = 3, fence = fence + 1, attempt = min(attempt + 1, 4294967295),
                   nonce = ?2, session = ?3, started = ?4
             where seq in (select value from json_each(?1))";
        let (seqs, now) = (rows.iter().map(|row| row.0), self.now.as_millis());
        // Tasks that came one after the other mostly are claimed so: a run of them costs half of as many single ones.
        if let Some(runs) = runs(seqs.clone()) {
            for (first, last) in runs {
                let take = sqlx::query(TAKE).bind(first).bind(last);
                take.bind(nonce).bind(session).bind(now).execute(&mut *self.conn).await?;
            }
            return Ok(());
        }
        let take = sqlx::query(TAKE_EACH).bind(numbers(seqs));
        take.bind(nonce).bind(session).bind(now).execute(&mut *self.conn).await?;
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
