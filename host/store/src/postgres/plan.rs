//! What one call changes: decided in memory, in the order of its items, and written with a few statements at the end.
//!
//! The rows of everything that moves are locked before it is looked at, so that what was read stays true until the commit,
//! and deciding in memory is the same code as the definition in [`Core`](crate::core::Core).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use omniq_model::{Kind, State, TaskError, TaskId, TaskResult, Timestamp, record};
use sqlx::Row;
use sqlx::types::Uuid;

use super::fault::{Fault, Result};
use super::live::{KEYED, Live, RUNS_ANYWAY, number};
use super::sql::uuid;
use super::tx::Tx;

/// A task that ends.
#[derive(Debug)]
struct Ending {
    live: Live,
    from: State,
    result: Vec<u8>,
}

/// What one call changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    ends: Vec<Ending>,
    updates: Vec<(State, Live)>,
    /// What this call has moved: rows that were read before are out of date for them.
    touched: HashSet<i64>,
    /// Who waits for whom, as far as it has been read.
    children: HashMap<i64, Vec<i64>>,
    /// Blocked tasks as they would be, and whether that is to be written.
    blocked: HashMap<i64, (Live, bool)>,
}

impl Plan {
    /// Whether this call has moved that task already.
    pub(super) fn has_moved(&self, seq: i64) -> bool {
        self.touched.contains(&seq)
    }

    /// Writes a task's row anew.
    pub(super) fn update(&mut self, from: State, live: Live) {
        self.touched.insert(live.seq);
        self.updates.push((from, live));
    }

    /// Takes an ended task back, whose row in the history is gone already.
    pub(super) fn revive(&mut self, from: State, live: Live) {
        debug_assert!(from.is_terminal(), "what has not ended need not be revived");
        self.touched.insert(live.seq);
        self.updates.push((from, live));
    }

    /// Ends a task without a result, for that reason.
    pub(super) async fn end_without(
        &mut self,
        tx: &mut Tx<'_>,
        live: Live,
        to: State,
        error: TaskError,
    ) -> Result<()> {
        let result = record::encode(&TaskResult::failure(error));
        self.end(tx, live, to, result).await
    }

    /// Ends a task, and lets go or cancels what waited for it.
    pub(super) async fn end(
        &mut self,
        tx: &mut Tx<'_>,
        mut live: Live,
        to: State,
        result: Vec<u8>,
    ) -> Result<()> {
        let from = std::mem::replace(&mut live.state, to);
        self.touched.insert(live.seq);
        self.blocked.remove(&live.seq);
        let parent = live.awaited.then_some((live.seq, live.id, to));
        self.ends.push(Ending { live, from, result });
        match parent {
            Some(parent) => self.settle(tx, parent).await,
            None => Ok(()),
        }
    }

    /// Lets go what waited for an ended task, or cancels it; a chain of any length without recursion.
    async fn settle(&mut self, tx: &mut Tx<'_>, ended: (i64, TaskId, State)) -> Result<()> {
        let mut open = vec![ended];
        while let Some((parent, id, state)) = open.pop() {
            if !self.children.contains_key(&parent) {
                let unread = open.iter().map(|(seq, ..)| *seq).chain([parent]);
                let unread: Vec<_> =
                    unread.filter(|seq| !self.children.contains_key(seq)).collect();
                self.read_children(tx, unread).await?;
            }
            for child in self.children.insert(parent, Vec::new()).unwrap_or_default() {
                let Some((live, dirty)) = self.blocked.get_mut(&child) else { continue };
                live.waits -= 1;
                *dirty = true;
                let cancelled = state != State::Succeeded && !live.has(RUNS_ANYWAY);
                if !cancelled && live.waits > 0 {
                    continue;
                }
                let Some((mut live, _)) = self.blocked.remove(&child) else { continue };
                if cancelled {
                    let from = std::mem::replace(&mut live.state, State::Cancelled);
                    self.touched.insert(child);
                    if live.awaited {
                        open.push((child, live.id, live.state));
                    }
                    let result = record::encode(&TaskResult::failure(parent_failed(id, state)));
                    self.ends.push(Ending { live, from, result });
                } else {
                    let from = live.state;
                    let (now, due) = (tx.now, Timestamp::from_millis(live.due));
                    live.wait_until(now, due.max(now)); // it was not due before its last parent's end
                    self.update(from, live);
                }
            }
        }
        Ok(())
    }

    /// Reads what waits for these tasks, which are about to end so, all at once: otherwise each end would ask for its own. Who
    /// is cancelled with them is looked at in the same way, generation by generation.
    pub(super) async fn read_ahead(
        &mut self,
        tx: &mut Tx<'_>,
        mut parents: Vec<i64>,
        to: State,
    ) -> Result<()> {
        loop {
            parents.retain(|seq| !self.children.contains_key(seq));
            if parents.is_empty() {
                return Ok(());
            }
            self.read_children(tx, parents.clone()).await?;
            if to == State::Succeeded {
                return Ok(());
            }
            let children = parents.iter().filter_map(|seq| self.children.get(seq)).flatten();
            let cancelled = children.filter(|child| {
                let child = self.blocked.get(child);
                child.is_some_and(|(live, _)| live.awaited && !live.has(RUNS_ANYWAY))
            });
            parents = cancelled.copied().collect::<BTreeSet<_>>().into_iter().collect();
        }
    }

    async fn read_children(&mut self, tx: &mut Tx<'_>, parents: Vec<i64>) -> Result<()> {
        const CHILDREN: &str = "select * from $S.hold_children($1)";
        for parent in &parents {
            self.children.entry(*parent).or_default();
        }
        let rows = tx.query(CHILDREN).bind(parents).fetch_all(&mut *tx.conn).await?;
        let mut read: BTreeMap<i64, Live> = BTreeMap::new();
        for row in &rows {
            let live = Live::read(row, State::Blocked)?;
            if !self.touched.contains(&live.seq) {
                self.children.entry(row.try_get(0)?).or_default().push(live.seq);
                read.insert(live.seq, live);
            }
        }
        read.retain(|seq, _| !self.blocked.contains_key(seq));
        let mut read: Vec<Live> = read.into_values().collect();
        tx.note_awaited(&mut read).await?;
        self.blocked.extend(read.into_iter().map(|live| (live.seq, (live, false))));
        Ok(())
    }

    /// Writes everything down.
    pub(super) async fn write(mut self, tx: &mut Tx<'_>) -> Result<()> {
        let dirty = std::mem::take(&mut self.blocked).into_values().filter(|(_, dirty)| *dirty);
        write_waits(tx, dirty.map(|(live, _)| live)).await?;
        let gone = self.updates.iter().map(|(from, live)| (*from, live));
        let gone = gone.chain(self.ends.iter().map(|ending| (ending.from, &ending.live)));
        leave(tx, gone).await?;
        write_updates(tx, self.updates).await?;
        write_ends(tx, self.ends).await
    }
}

/// Why a child is cancelled.
pub(super) fn parent_failed(parent: TaskId, state: State) -> TaskError {
    TaskError::new(Kind::ParentFailed, format!("task `{parent}`, which it waited for, has {state}"))
}

/// Children that wait on, for fewer. In place: whoever waits for the lock of such a row has to find it again.
async fn write_waits(tx: &mut Tx<'_>, children: impl Iterator<Item = Live>) -> Result<()> {
    const WRITE: &str = "
        update $S.blocked b set waits = u.waits from unnest($1::bigint[], $2::int[]) as u(seq, waits) where b.seq = u.seq";
    let (seqs, waits): (Vec<i64>, Vec<i32>) = children.map(|live| (live.seq, live.waits)).unzip();
    if !seqs.is_empty() {
        tx.query(WRITE).bind(seqs).bind(waits).execute(&mut *tx.conn).await?;
    }
    Ok(())
}

/// Takes rows out of the tables they were in.
async fn leave(tx: &mut Tx<'_>, gone: impl Iterator<Item = (State, &Live)>) -> Result<()> {
    const READY: &str = "
        delete from $S.ready q where q.ctid = any(array(
            select q.loc from unnest($1::int[], $2::smallint[], $3::bigint[]) as u(lane, rank, seq)
             cross join lateral (select q.ctid as loc from $S.ready q
                                  where q.lane = u.lane and q.rank = u.rank and q.seq = u.seq offset 0) q))";
    const SCHEDULED: &str = "delete from $S.scheduled q where q.seq = any($1)";
    const BLOCKED: &str = "delete from $S.blocked q where q.seq = any($1)";
    const LEASE: &str = "delete from $S.lease q where q.id = any($1)";
    let (mut lanes, mut ranks, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    let (mut scheduled, mut blocked, mut leased) = (Vec::new(), Vec::new(), Vec::<Uuid>::new());
    for (from, live) in gone {
        match from {
            State::Ready => {
                lanes.push(live.lane);
                ranks.push(live.rank);
                ready.push(live.seq);
            }
            State::Scheduled => scheduled.push(live.seq),
            State::Blocked => blocked.push(live.seq),
            State::Running => leased.push(uuid(live.id)),
            _ => {} // revived
        }
    }
    let mut expected = ready.len() + scheduled.len() + blocked.len() + leased.len();
    let mut gone = |done: sqlx::postgres::PgQueryResult| {
        expected =
            expected.saturating_sub(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX));
    };
    if !ready.is_empty() {
        let query = tx.query(READY).bind(lanes).bind(ranks).bind(ready);
        gone(query.execute(&mut *tx.conn).await?);
    }
    if !leased.is_empty() {
        gone(tx.query(LEASE).bind(leased).execute(&mut *tx.conn).await?);
    }
    for (sql, seqs) in [(SCHEDULED, scheduled), (BLOCKED, blocked)] {
        if !seqs.is_empty() {
            gone(tx.query(sql).bind(seqs).execute(&mut *tx.conn).await?);
        }
    }
    // They were locked: nobody else can have taken them.
    if expected == 0 { Ok(()) } else { Err(Fault::Again("a locked row went away".into())) }
}

/// Rows of the table of one state.
#[derive(Default)]
struct Columns {
    seq: Vec<i64>,
    keep: Vec<i64>,
    fence: Vec<i64>,
    due: Vec<i64>,
    id: Vec<Uuid>,
    lane: Vec<i32>,
    size: Vec<i32>,
    attempt: Vec<i32>,
    crashes: Vec<i32>,
    waits: Vec<i32>,
    rank: Vec<i16>,
    flags: Vec<i16>,
    nonce: Vec<Option<i64>>,
    session: Vec<Option<i64>>,
    expires: Vec<Option<i64>>,
    started: Vec<Option<i64>>,
    error: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn push(&mut self, live: Live) {
        self.seq.push(live.seq);
        self.keep.push(live.keep);
        self.fence.push(live.fence);
        self.due.push(live.due);
        self.id.push(uuid(live.id));
        self.lane.push(live.lane);
        self.size.push(live.size);
        self.attempt.push(live.attempt);
        self.crashes.push(live.crashes);
        self.waits.push(live.waits);
        self.rank.push(live.rank);
        self.flags.push(live.flags);
        self.nonce.push(live.nonce);
        self.session.push(live.session);
        self.expires.push(live.expires);
        self.started.push(live.started);
        self.error.push(live.error);
    }

    async fn insert(self, tx: &mut Tx<'_>, sql: &'static str) -> Result<()> {
        let query = tx
            .query(sql)
            .bind(self.seq)
            .bind(self.keep)
            .bind(self.fence)
            .bind(self.due)
            .bind(self.id);
        let query = query
            .bind(self.lane)
            .bind(self.size)
            .bind(self.attempt)
            .bind(self.crashes)
            .bind(self.waits);
        let query = query
            .bind(self.rank)
            .bind(self.flags)
            .bind(self.nonce)
            .bind(self.session)
            .bind(self.expires);
        query.bind(self.started).bind(self.error).execute(&mut *tx.conn).await?;
        Ok(())
    }
}

macro_rules! insert {
    ($table:literal) => {
        concat!(
            "insert into $S.",
            $table,
            "(seq, keep, fence, due, id, lane, size, attempt, crashes, waits, rank, flags, nonce, session, expires,
              started, error)
             select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[],
                                  $8::int[], $9::int[], $10::int[], $11::smallint[], $12::smallint[], $13::bigint[],
                                  $14::bigint[], $15::bigint[], $16::bigint[], $17::bytea[])"
        )
    };
}

/// Puts rows that go on into the tables of their new states.
async fn write_updates(tx: &mut Tx<'_>, updates: Vec<(State, Live)>) -> Result<()> {
    let (mut ready, mut scheduled) = (Columns::default(), Columns::default());
    for (from, live) in updates {
        tx.moves(live.lane, from, live.state);
        match live.state {
            State::Ready => ready.push(live),
            State::Scheduled => scheduled.push(live),
            other => return Err(Fault::Other(format!("nothing goes back to {other}"))),
        }
    }
    for (columns, sql) in [(ready, insert!("ready")), (scheduled, insert!("scheduled"))] {
        if !columns.seq.is_empty() {
            columns.insert(tx, sql).await?;
        }
    }
    Ok(())
}

/// Rows of the history.
#[derive(Default)]
pub(super) struct Done {
    seq: Vec<i64>,
    forget: Vec<i64>,
    fence: Vec<i64>,
    id: Vec<Uuid>,
    lane: Vec<i32>,
    attempt: Vec<i32>,
    crashes: Vec<i32>,
    rank: Vec<i16>,
    flags: Vec<i16>,
    state: Vec<i16>,
    nonce: Vec<Option<i64>>,
    started: Vec<Option<i64>>,
    result: Vec<Vec<u8>>,
}

impl Done {
    pub(super) fn push(&mut self, live: &Live, now: Timestamp, result: Vec<u8>) {
        self.seq.push(live.seq);
        self.forget.push(now.as_millis().saturating_add(live.keep));
        self.fence.push(live.fence);
        self.id.push(uuid(live.id));
        self.lane.push(live.lane);
        self.attempt.push(live.attempt);
        self.crashes.push(live.crashes);
        self.rank.push(live.rank);
        self.flags.push(live.flags);
        self.state.push(number(live.state));
        self.nonce.push(live.nonce);
        self.started.push(live.started);
        self.result.push(result);
    }

    pub(super) async fn insert(self, tx: &mut Tx<'_>) -> Result<()> {
        const KEEP: &str = "
            insert into $S.done(finished, seq, forget, fence, id, lane, attempt, crashes, rank, flags, state, nonce, started,
                                result)
            select $1, u.* from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::int[], $7::int[], $8::int[],
                                       $9::smallint[], $10::smallint[], $11::smallint[], $12::bigint[], $13::bigint[],
                                       $14::bytea[]) as u";
        if self.seq.is_empty() {
            return Ok(());
        }
        let query = tx
            .query(KEEP)
            .bind(tx.now.as_millis())
            .bind(self.seq)
            .bind(self.forget)
            .bind(self.fence);
        let query = query
            .bind(self.id)
            .bind(self.lane)
            .bind(self.attempt)
            .bind(self.crashes)
            .bind(self.rank);
        let query = query.bind(self.flags).bind(self.state).bind(self.nonce).bind(self.started);
        query.bind(self.result).execute(&mut *tx.conn).await?;
        Ok(())
    }
}

async fn write_ends(tx: &mut Tx<'_>, ends: Vec<Ending>) -> Result<()> {
    // Children that were cancelled leave edges of other parents behind: harmless, and gone with those parents.
    const EDGES: &str = "delete from $S.edge e where e.parent = any($1)";
    const KEYS: &str = "delete from $S.ukey u where u.scope <> 2 and u.holder = any($1)";
    let mut done = Done::default();
    let (mut awaited, mut keyed) = (Vec::new(), Vec::new());
    for Ending { live, from, result } in ends {
        tx.moves(live.lane, from, live.state);
        awaited.extend(live.awaited.then_some(live.seq));
        keyed.extend(live.has(KEYED).then_some(live.seq));
        done.push(&live, tx.now, result);
    }
    done.insert(tx).await?;
    for (sql, seqs) in [(EDGES, awaited), (KEYS, keyed)] {
        if !seqs.is_empty() {
            tx.query(sql).bind(seqs).execute(&mut *tx.conn).await?;
        }
    }
    Ok(())
}
