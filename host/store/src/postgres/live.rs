//! One task that has not ended, as its row says: what decisions are made of.

use omniq_model::{Lane, SessionId, State, TaskId, Timestamp, Token};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::fault::Result;
use super::sql::task_id;
use crate::Moved;

/// Set in the flags of a task that has a unique key.
pub(super) const KEYED: i16 = 1;
/// Set in the flags of a task that runs although a parent failed.
pub(super) const RUNS_ANYWAY: i16 = 2;
/// Set in the flags of a task whose attempt somebody wants stopped.
pub(super) const CANCEL: i16 = 4;
/// Set in the flags of a task whose key is taken until it starts.
pub(super) const UNTIL_STARTED: i16 = 8;

/// A row of `ready`, `scheduled`, `blocked` or `lease`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub state: State,
    pub seq: i64,
    pub keep: i64,
    pub fence: i64,
    pub due: i64,
    pub id: TaskId,
    pub lane: i32,
    pub size: i32,
    pub attempt: i32,
    pub crashes: i32,
    pub waits: i32,
    pub rank: i16,
    pub flags: i16,
    /// Of the current claim, or of the last one whose end was committed; `None` when it was taken away.
    pub nonce: Option<i64>,
    pub session: Option<i64>,
    pub expires: Option<i64>,
    pub started: Option<i64>,
    pub error: Option<Vec<u8>>,
    /// Whether others may wait for it.
    pub awaited: bool,
}

impl Live {
    /// Reads a row of `hold`, or of `hold_children`, whose first column is something else.
    pub(super) fn read(row: &PgRow, state: State) -> Result<Self> {
        Ok(Self {
            state,
            seq: row.try_get(1)?,
            keep: row.try_get(2)?,
            fence: row.try_get(3)?,
            due: row.try_get(4)?,
            id: task_id(row.try_get(5)?),
            lane: row.try_get(6)?,
            size: row.try_get(7)?,
            attempt: row.try_get(8)?,
            crashes: row.try_get(9)?,
            waits: row.try_get(10)?,
            rank: row.try_get(11)?,
            flags: row.try_get(12)?,
            nonce: row.try_get(13)?,
            session: row.try_get(14)?,
            expires: row.try_get(15)?,
            started: row.try_get(16)?,
            error: row.try_get(17)?,
            awaited: false,
        })
    }

    pub(super) fn has(&self, flag: i16) -> bool {
        self.flags & flag != 0
    }

    /// The token of its latest claim; only while it is kept.
    pub(super) fn token(&self) -> Option<Token> {
        let nonce = self.nonce.filter(|_| self.fence > 0)?;
        Some(Token { fence: self.fence.cast_unsigned(), nonce: nonce.cast_unsigned() })
    }

    /// Lets it wait until `at`, or be ready when that has come. Its claim is over.
    pub(super) fn wait_until(&mut self, now: Timestamp, at: Timestamp) {
        self.state = if at > now { State::Scheduled } else { State::Ready };
        self.due = at.as_millis();
        self.session = None;
    }

    /// The attempt does not count.
    pub(super) fn give_attempt_back(&mut self) {
        self.attempt = (self.attempt - 1).max(0);
    }

    /// What a caller is told about its move from `from`.
    pub(super) fn moved(&self, lane: Lane, from: State) -> Moved {
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
pub(super) fn small(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(super) fn state(number: i16) -> State {
    State::from_number(u8::try_from(number).unwrap_or(u8::MAX))
}

pub(super) fn number(state: State) -> i16 {
    i16::from(state.number())
}

/// A session as the row has it.
pub(super) fn session(id: SessionId) -> i64 {
    id.get().cast_signed()
}

/// A nonce as the row has it. Callers keep it below 2^63; one that is not loses no bit by this.
pub(super) fn nonce(token: Token) -> i64 {
    token.nonce.cast_signed()
}
