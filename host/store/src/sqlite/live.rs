//! One task that has not ended, as its row says: what decisions are made of.

use omniq_model::{SessionId, State, TaskId, Timestamp, Token};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::fault::{Fault, Result};
use crate::Moved;

/// The columns [`Live::read`] reads, of `omniq_task t`.
macro_rules! live {
    () => {
        "t.seq, t.id, t.lane, t.state, t.attempt, t.crashes, t.fence, t.nonce, t.cancel, t.due, t.flags, t.waits, t.keep,
         exists(select 1 from omniq_edge e where e.parent = t.seq)"
    };
}
pub(super) use live;

/// Set in the flags of a task that has a unique key.
pub(super) const KEYED: i64 = 1;
/// Set in the flags of a task that runs although a parent failed.
pub(super) const RUNS_ANYWAY: i64 = 2;

/// The mutable part of a task's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub seq: i64,
    pub id: TaskId,
    pub lane: i64,
    pub state: State,
    pub attempt: i64,
    pub crashes: i64,
    pub fence: i64,
    /// Of the current claim, or of the last one whose end was committed; `None` when it was taken away.
    pub nonce: Option<i64>,
    pub cancel: bool,
    pub due: i64,
    pub flags: i64,
    /// For how many tasks it waits.
    pub waits: i64,
    pub keep: i64,
    /// Whether others wait for it.
    pub awaited: bool,
}

impl Live {
    /// Columns of [`live!`].
    pub(super) const COLUMNS: usize = 14;

    /// Reads [`live!`] from column `at` on.
    pub(super) fn read(row: &SqliteRow, at: usize) -> Result<Self> {
        Ok(Self {
            seq: row.try_get(at)?,
            id: task_id(row.try_get(at + 1)?)?,
            lane: row.try_get(at + 2)?,
            state: state(row.try_get(at + 3)?),
            attempt: row.try_get(at + 4)?,
            crashes: row.try_get(at + 5)?,
            fence: row.try_get(at + 6)?,
            nonce: row.try_get(at + 7)?,
            cancel: row.try_get::<i64, _>(at + 8)? != 0,
            due: row.try_get(at + 9)?,
            flags: row.try_get(at + 10)?,
            waits: row.try_get(at + 11)?,
            keep: row.try_get(at + 12)?,
            awaited: row.try_get::<i64, _>(at + 13)? != 0,
        })
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.flags & KEYED != 0
    }

    pub(super) fn runs_anyway(&self) -> bool {
        self.flags & RUNS_ANYWAY != 0
    }

    /// The token of its latest claim; only while it is kept.
    pub(super) fn token(&self) -> Option<Token> {
        let nonce = self.nonce.filter(|_| self.fence > 0)?;
        Some(Token { fence: self.fence.cast_unsigned(), nonce: nonce.cast_unsigned() })
    }

    /// Lets it wait until `at`, or be ready when that has come. Its claim is over.
    pub(super) fn wait_until(&mut self, now: Timestamp, at: Timestamp) {
        let waits = at > now;
        self.state = if waits { State::Scheduled } else { State::Ready };
        self.due = at.as_millis();
    }

    /// What a caller is told about its move from `from`.
    pub(super) fn moved(&self, lane: omniq_model::Lane, from: State) -> Moved {
        Moved {
            id: self.id,
            lane,
            fence: self.fence.cast_unsigned(),
            attempt: small(self.attempt),
            from,
            to: self.state,
        }
    }
}

/// A count that fits by all that is known; a damaged one shows as the most there is.
pub(super) fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) fn state(number: i64) -> State {
    State::from_number(u8::try_from(number).unwrap_or(u8::MAX))
}

pub(super) fn task_id(bytes: &[u8]) -> Result<TaskId> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Fault::Corrupt(format!("a task's id has {} bytes, not 16", bytes.len())))?;
    Ok(TaskId::from_bytes(bytes))
}

/// A session as the row has it.
pub(super) fn session(id: SessionId) -> i64 {
    id.get().cast_signed()
}

/// A nonce as the row has it. Callers keep it below 2^63; one that is not loses no bit by this.
pub(super) fn nonce(token: Token) -> i64 {
    token.nonce.cast_signed()
}
