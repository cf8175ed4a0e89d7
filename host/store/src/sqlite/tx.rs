//! What every call inside one transaction shares.

use std::collections::BTreeMap;

use omniq_model::{Lane, State, Timestamp};
use sqlx::SqliteConnection;

use super::fault::Result;
use super::names::Names;
use super::pack::{Pack, packed};

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

    /// Writes the counts down; the last thing before the commit.
    pub(super) async fn settle_counts(&mut self) -> Result<()> {
        let mut pack = Pack::default();
        for ((lane, state), change) in std::mem::take(&mut self.tally) {
            if change != 0 {
                pack.row(&[lane.into(), i64::from(state).into(), change.into()]);
            }
        }
        if pack.is_empty() {
            return Ok(());
        }
        packed!(
            ADD,
            3,
            "insert into omniq_tally(lane, state, count) select {0}, {1}, {2} from {rows} where true
             on conflict do update set count = count + excluded.count"
        );
        pack.query(&ADD).execute(&mut *self.conn).await?;
        Ok(())
    }
}
