//! What one call changes: decided in memory, in the order of its items, and written with a few statements at the end.
//!
//! Nobody else writes while the transaction is open, so what was read stays true, and deciding in memory is as good as
//! deciding in SQL, and the same code as the definition in [`Core`](crate::core::Core).

use std::collections::{HashMap, HashSet};

use omniq_model::{Kind, State, TaskError, TaskId, TaskResult, Timestamp, record};

use super::fault::Result;
use super::live::{Live, live};
use super::pack::{Cell, Pack, numbers, packed};
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
    errors: Vec<(i64, Vec<u8>)>,
    /// What this call has moved: rows in the file are out of date for them.
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

    /// Keeps why a task's latest attempt gave no result.
    pub(super) fn error(&mut self, seq: i64, error: &TaskError) {
        self.errors.push((seq, record::encode(error)));
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
            let unread = open.iter().map(|(seq, ..)| *seq).chain([parent]);
            let unread: Vec<_> = unread.filter(|seq| !self.children.contains_key(seq)).collect();
            if !self.children.contains_key(&parent) {
                self.read_children(tx, &unread).await?;
            }
            for child in self.children.insert(parent, Vec::new()).unwrap_or_default() {
                let Some((live, dirty)) = self.blocked.get_mut(&child) else { continue };
                live.waits -= 1;
                *dirty = true;
                if state != State::Succeeded && !live.runs_anyway() {
                    let Some((mut live, _)) = self.blocked.remove(&child) else { continue };
                    let from = std::mem::replace(&mut live.state, State::Cancelled);
                    self.touched.insert(child);
                    if live.awaited {
                        open.push((child, live.id, live.state));
                    }
                    let result = record::encode(&TaskResult::failure(parent_failed(id, state)));
                    self.ends.push(Ending { live, from, result });
                } else if live.waits <= 0 {
                    let Some((mut live, _)) = self.blocked.remove(&child) else { continue };
                    let from = live.state;
                    live.wait_until(tx.now, Timestamp::from_millis(live.due));
                    self.update(from, live);
                }
            }
        }
        Ok(())
    }

    async fn read_children(&mut self, tx: &mut Tx<'_>, parents: &[i64]) -> Result<()> {
        const CHILDREN: &str = concat!(
            "select e.parent, ",
            live!(),
            " from omniq_edge e cross join omniq_task t on t.seq = e.child
              where e.parent in (select value from json_each(?1)) and t.state = 0
              order by e.parent, e.child"
        );
        for parent in parents {
            self.children.entry(*parent).or_default();
        }
        let rows = sqlx::query(CHILDREN)
            .bind(numbers(parents.iter().copied()))
            .fetch_all(&mut *tx.conn)
            .await?;
        for row in &rows {
            let parent: i64 = sqlx::Row::try_get(row, 0)?;
            let live = Live::read(row, 1)?;
            if !self.touched.contains(&live.seq) {
                self.children.entry(parent).or_default().push(live.seq);
                self.blocked.entry(live.seq).or_insert((live, false));
            }
        }
        Ok(())
    }

    /// Writes everything down.
    pub(super) async fn write(mut self, tx: &mut Tx<'_>) -> Result<()> {
        let dirty = self.blocked.into_values().filter(|(_, dirty)| *dirty);
        self.updates.extend(dirty.map(|(live, _)| (live.state, live)));
        write_errors(tx, &self.errors).await?;
        write_updates(tx, &self.updates).await?;
        write_ends(tx, &self.ends).await
    }
}

/// Why a child is cancelled.
pub(super) fn parent_failed(parent: TaskId, state: State) -> TaskError {
    TaskError::new(Kind::ParentFailed, format!("task `{parent}`, which it waited for, has {state}"))
}

async fn write_errors(tx: &mut Tx<'_>, errors: &[(i64, Vec<u8>)]) -> Result<()> {
    packed!(
        ERRORS,
        3,
        "update omniq_task set error = v.error from (select {0} as seq, {1b} as error from {rows}) v
          where omniq_task.seq = v.seq"
    );
    let mut pack = Pack::default();
    for (index, (seq, error)) in errors.iter().enumerate() {
        pack.row(&[(*seq).into(), Cell::Bytes(error)]);
        if pack.is_full() || index + 1 == errors.len() {
            pack.query(&ERRORS).execute(&mut *tx.conn).await?;
        }
    }
    Ok(())
}

async fn write_updates(tx: &mut Tx<'_>, updates: &[(State, Live)]) -> Result<()> {
    packed!(
        UPDATE,
        8,
        "update omniq_task set state = v.state, attempt = v.attempt, crashes = v.crashes, nonce = v.nonce,
                session = null, cancel = v.cancel, due = v.due, waits = v.waits
           from (select {0} as seq, {1} as state, {2} as attempt, {3} as crashes, {4?} as nonce, {5} as cancel,
                        {6} as due, {7} as waits
                   from {rows}) v
          where omniq_task.seq = v.seq"
    );
    let mut pack = Pack::default();
    for (from, live) in updates {
        tx.moves(live.lane, *from, live.state);
        pack.row(&[
            live.seq.into(),
            i64::from(live.state.number()).into(),
            live.attempt.into(),
            live.crashes.into(),
            live.nonce.into(),
            i64::from(live.cancel).into(),
            live.due.into(),
            live.waits.into(),
        ]);
    }
    if !pack.is_empty() {
        pack.query(&UPDATE).execute(&mut *tx.conn).await?;
    }
    Ok(())
}

async fn write_ends(tx: &mut Tx<'_>, ends: &[Ending]) -> Result<()> {
    packed!(
        KEEP,
        8,
        "insert into omniq_done(seq, id, lane, code, state, rank, attempt, crashes, fence, nonce, cancel, created,
                started, ttl, keep, flags, finished, forget, result)
         select t.seq, t.id, t.lane, t.code, {1}, t.rank, {2}, {3}, t.fence, {4?}, t.cancel, t.created, t.started,
                t.ttl, t.keep, t.flags, ?4, {5}, {6b}
           from {rows} cross join omniq_task t on t.seq = {0};
         delete from omniq_task where seq in (select {0} from {rows})"
    );
    let now = tx.now.as_millis();
    let mut pack = Pack::default();
    let mut last = ends.len();
    for ending in ends {
        let live = &ending.live;
        tx.moves(live.lane, ending.from, live.state);
        pack.row(&[
            live.seq.into(),
            i64::from(live.state.number()).into(),
            live.attempt.into(),
            live.crashes.into(),
            live.nonce.into(),
            now.saturating_add(live.keep).into(),
            Cell::Bytes(&ending.result),
        ]);
        last -= 1;
        if pack.is_full() || last == 0 {
            pack.query(&KEEP).bind(now).execute(&mut *tx.conn).await?;
        }
    }
    let_go(tx, ends).await
}

/// Frees what ended tasks held.
async fn let_go(tx: &mut Tx<'_>, ends: &[Ending]) -> Result<()> {
    // Children that were cancelled leave edges of other parents behind: harmless, and gone with those parents.
    const EDGES: &str = "delete from omniq_edge where parent in (select value from json_each(?1))";
    const KEYS: &str = "
        delete from omniq_ukey where scope <> 2 and holder in (select value from json_each(?1))";
    let chosen = |keep: fn(&Live) -> bool| {
        numbers(ends.iter().filter(|end| keep(&end.live)).map(|end| end.live.seq))
    };
    for (sql, seqs) in [(EDGES, chosen(|live| live.awaited)), (KEYS, chosen(Live::is_keyed))] {
        if seqs.len() > 2 {
            sqlx::query(sql).bind(seqs).execute(&mut *tx.conn).await?;
        }
    }
    Ok(())
}
