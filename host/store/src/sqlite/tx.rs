//! What every call inside one transaction shares.

use std::collections::BTreeMap;

use omniq_model::{Lane, State, Timestamp};
use sqlx::SqliteConnection;

use super::fault::Result;
use super::names::Names;
use super::pack::{Pack, packed};

/// Adds counts to those that are there.
macro_rules! add_counts {
    () => {
        "insert into omniq_tally(lane, state, count) select {0}, {1}, {2} from {rows} where true
         on conflict do update set count = count + excluded.count"
    };
}

/// Commits; counts go along, which saves a trip to the connection's thread.
pub(super) async fn commit(conn: &mut SqliteConnection, mut counts: Pack) -> Result<()> {
    packed!(COMMIT, 3, concat!(add_counts!(), "; commit"));
    if counts.is_empty() {
        sqlx::query("commit").execute(conn).await?;
    } else {
        counts.query(&COMMIT).execute(conn).await?;
    }
    Ok(())
}

/// A write transaction that has begun, at one instant.
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub conn: &'c mut SqliteConnection,
    pub names: &'c mut Names,
    /// The instant of all that happens in it.
    pub now: Timestamp,
    /// Something became ready or was scheduled, a lane was let go, or a running task is to stop.
    pub work: bool,
    /// A task ended.
    pub ends: bool,
    tally: BTreeMap<(i64, u8), i64>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(
        conn: &'c mut SqliteConnection,
        names: &'c mut Names,
        now: Timestamp,
    ) -> Self {
        Self { conn, names, now, work: false, ends: false, tally: BTreeMap::new() }
    }

    /// Counts tasks of a lane that came to or left a state.
    pub(super) fn count(&mut self, lane: i64, state: State, change: i64) {
        *self.tally.entry((lane, state.number())).or_default() += change;
    }

    /// Counts a move, and notes whom it may interest.
    pub(super) fn moves(&mut self, lane: i64, from: State, to: State) {
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

    pub(super) async fn lane_name(&mut self, number: i64) -> Result<Lane> {
        self.names.lane_name(self.conn, number).await
    }

    /// Writes the counts down, the last thing before the commit of somebody else.
    pub(super) async fn write_counts(&mut self) -> Result<()> {
        packed!(WRITE, 3, add_counts!());
        let mut pack = self.take_counts();
        if !pack.is_empty() {
            pack.query(&WRITE).execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// What is left to be counted.
    pub(super) fn take_counts(&mut self) -> Pack {
        let mut pack = Pack::default();
        for ((lane, state), change) in std::mem::take(&mut self.tally) {
            if change != 0 {
                pack.row(&[lane.into(), i64::from(state).into(), change.into()]);
            }
        }
        pack
    }
}
