//! What every call inside one transaction shares.

use std::collections::BTreeMap;

use omniq_model::{Lane, State, TaskId, Timestamp};
use sqlx::{PgConnection, Row};

use super::fault::Result;
use super::live::{Live, state};
use super::names::Names;
use super::sql::{Bound, Schema, uuids};

/// A transaction that has begun, at one instant.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub conn: &'c mut PgConnection,
    pub schema: &'c Schema,
    pub names: &'c Names,
    /// The instant of all that happens in it.
    pub now: Timestamp,
    /// Something became ready or was scheduled, a lane was let go, or a running task is to stop.
    pub work: bool,
    /// A task ended.
    pub ends: bool,
    tally: BTreeMap<(i32, u8), i64>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(
        conn: &'c mut PgConnection,
        schema: &'c Schema,
        names: &'c Names,
        now: Timestamp,
    ) -> Self {
        Self { conn, schema, names, now, work: false, ends: false, tally: BTreeMap::new() }
    }

    pub(super) fn query(&self, text: &'static str) -> Bound {
        self.schema.query(text)
    }

    /// Counts tasks of a lane that came to or left a state.
    pub(super) fn count(&mut self, lane: i32, state: State, change: i64) {
        *self.tally.entry((lane, state.number())).or_default() += change;
    }

    /// Counts a move, and notes whom it may interest.
    pub(super) fn moves(&mut self, lane: i32, from: State, to: State) {
        if from != to {
            self.count(lane, from, -1);
            self.count(lane, to, 1);
        }
        self.notes(to);
    }

    pub(super) fn notes(&mut self, to: State) {
        self.work |= matches!(to, State::Ready | State::Scheduled);
        self.ends |= to.is_terminal();
    }

    pub(super) async fn lane_name(&mut self, number: i32) -> Result<Lane> {
        self.names.lane_name(self.conn, self.schema, number).await
    }

    /// Writes the counts down, the last thing before the commit.
    pub(super) async fn write_counts(&mut self) -> Result<()> {
        const WRITE: &str = "
            insert into $S.tally(lane, state, count)
            select * from unnest($1::int[], $2::smallint[], $3::bigint[])";
        let changes =
            std::mem::take(&mut self.tally).into_iter().filter(|(_, change)| *change != 0);
        let (mut lanes, mut states, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for ((lane, state), change) in changes {
            lanes.push(lane);
            states.push(i16::from(state));
            counts.push(change);
        }
        if !lanes.is_empty() {
            let query = self.query(WRITE).bind(lanes).bind(states).bind(counts);
            query.execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Locks those of these tasks that have not ended, and reads them, in the order of arrival.
    pub(super) async fn hold(&mut self, ids: &[TaskId]) -> Result<Vec<Live>> {
        const HOLD: &str = "select * from $S.hold($1)";
        // A task that goes from one table to another while its old row is waited for is in neither of the first answer.
        const TRIES: usize = 3;
        let mut held: BTreeMap<TaskId, Live> = BTreeMap::new();
        let mut missing = ids.to_vec();
        for _ in 0..TRIES {
            if missing.is_empty() {
                break;
            }
            let query = self.query(HOLD).bind(uuids(&missing));
            let rows = query.fetch_all(&mut *self.conn).await?;
            for row in &rows {
                let live = Live::read(row, state(row.try_get(0)?))?;
                held.insert(live.id, live);
            }
            missing.retain(|id| !held.contains_key(id));
            missing = self.not_ended(missing).await?;
        }
        let mut held: Vec<Live> = held.into_values().collect();
        held.sort_unstable_by_key(|live| live.seq);
        self.note_awaited(&mut held).await?;
        Ok(held)
    }

    /// Those of these tasks that are there and have not ended.
    async fn not_ended(&mut self, ids: Vec<TaskId>) -> Result<Vec<TaskId>> {
        const WHICH: &str = "
            select t.id from unnest($1::uuid[]) as u(id)
             cross join lateral (select t.id, t.seq from $S.task t where t.id = u.id offset 0) t
             where not exists (select 1 from $S.done d where d.seq = t.seq offset 0)";
        if ids.is_empty() {
            return Ok(ids);
        }
        let rows = self.query(WHICH).bind(uuids(&ids)).fetch_all(&mut *self.conn).await?;
        rows.iter().map(|row| Ok(super::sql::task_id(row.try_get(0)?))).collect()
    }

    /// Notes for which of these others wait. A statement after the one that locked them: a task that came to wait while the
    /// lock was waited for was committed after that one began.
    pub(super) async fn note_awaited(&mut self, held: &mut [Live]) -> Result<()> {
        const AWAITED: &str = "select distinct e.parent from $S.edge e where e.parent = any($1)";
        if held.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = held.iter().map(|live| live.seq).collect();
        let rows = self.query(AWAITED).bind(seqs).fetch_all(&mut *self.conn).await?;
        let awaited: std::collections::HashSet<i64> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        for live in held {
            live.awaited = awaited.contains(&live.seq);
        }
        Ok(())
    }
}
