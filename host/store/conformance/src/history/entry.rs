//! One line of a history: what a client did to one task, and what it was told.

use std::fmt;

use omniq_model::{Head, Name, SessionId, State, TaskId, Timestamp, Token, Value};
use omniq_store::{Enqueued, Finished};
use serde::{Deserialize, Serialize};

/// One line of a history. Calls about several tasks give one line for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Before the call: a number that goes up over all clients. The least there is: not known.
    pub t0: i64,
    /// After its answer; on the same scale. The greatest there is: it never came.
    pub t1: i64,
    /// The store's clock before and after, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<(Timestamp, Timestamp)>,
    /// Who called.
    pub client: u32,
    /// What was done, and the answer.
    #[serde(flatten)]
    pub what: What,
}

/// As the line of a history.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What was done, and the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum What {
    /// A task was enqueued.
    Enqueue {
        /// Which.
        task: TaskId,
        /// The answer.
        outcome: Offer,
    },
    /// A lease was given out.
    Claim {
        /// Of which task.
        task: TaskId,
        /// By which token.
        token: Token,
        /// To whom, where it is known.
        session: Option<SessionId>,
        /// Which attempt.
        attempt: u32,
    },
    /// A session was opened or kept alive for `lease` milliseconds.
    Beat {
        /// Which.
        session: SessionId,
        /// How long it lives from then on.
        lease: u64,
    },
    /// An attempt was ended.
    Finish {
        /// Of which task.
        task: TaskId,
        /// By which token.
        token: Token,
        /// What the client asked for: where the task is to stand then.
        #[serde(with = "by_name")]
        state: State,
        /// The fingerprint of the value, if there is one.
        value: Option<u64>,
        /// The answer.
        outcome: Fate,
    },
    /// A task was moved without its worker's doing: reclaimed, put back, cancelled, expired, retried by hand.
    Move {
        /// Which.
        task: TaskId,
        /// The fence of its latest claim.
        fence: u64,
        /// Where it stood.
        #[serde(with = "by_name")]
        from: State,
        /// Where it stands.
        #[serde(with = "by_name")]
        to: State,
    },
    /// A session closed or called its leases lost; whatever it held may be somebody else's from the call on.
    Quit {
        /// Which.
        session: SessionId,
    },
    /// A task was read.
    Read {
        /// Which.
        task: TaskId,
        /// Where it stood.
        #[serde(with = "by_name")]
        state: State,
        /// The fence of its latest claim.
        fence: u64,
        /// The fingerprint of its value.
        value: Option<u64>,
    },
    /// A schedule fired.
    Fire {
        /// Which.
        schedule: Name,
        /// At which version.
        version: u64,
        /// For which instant.
        nominal: Timestamp,
        /// What it made.
        task: TaskId,
        /// Whether it did; `None`: the answer was lost.
        fired: Option<bool>,
    },
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offer {
    /// It was accepted now, or had been before.
    Acked,
    /// It was not accepted, for a reason.
    Refused,
    /// The answer was lost.
    Unknown,
}

impl Offer {
    /// What that answer about `task` means.
    pub fn of(task: TaskId, answer: &Enqueued) -> Self {
        match answer {
            Enqueued::Created => Self::Acked,
            Enqueued::Duplicate { id, .. } if *id == task => Self::Acked,
            Enqueued::Duplicate { .. } | Enqueued::Conflict | Enqueued::Refused(_) => Self::Refused,
        }
    }
}

/// What became of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was committed.
    Applied,
    /// It had been committed before.
    Before,
    /// Its token was not the current one.
    Stale,
    /// The answer was lost.
    Unknown,
}

impl From<Finished> for Fate {
    fn from(finished: Finished) -> Self {
        match finished {
            Finished::Applied(_) => Self::Applied,
            Finished::AppliedBefore(_) => Self::Before,
            Finished::Stale => Self::Stale,
        }
    }
}

impl Entry {
    /// A task that a producer was told is accepted; when is not known.
    pub fn acked(task: TaskId) -> Self {
        Self::sometime(What::Enqueue { task, outcome: Offer::Acked })
    }

    /// A task that a producer offered without hearing an answer.
    pub fn unknown(task: TaskId) -> Self {
        Self::sometime(What::Enqueue { task, outcome: Offer::Unknown })
    }

    /// An attempt that had begun by `at`.
    pub fn started(task: TaskId, token: Token, attempt: u32, at: Timestamp) -> Self {
        Self::by(at, What::Claim { task, token, session: None, attempt })
    }

    /// An attempt whose end had been committed by `at`.
    pub fn ended(task: TaskId, token: Token, state: State, at: Timestamp) -> Self {
        let outcome = Fate::Applied;
        Self::by(at, What::Finish { task, token, state, value: None, outcome })
    }

    /// A task that had been moved by `at` without its worker's doing.
    pub fn moved(task: TaskId, fence: u64, from: State, to: State, at: Timestamp) -> Self {
        Self::by(at, What::Move { task, fence, from, to })
    }

    fn sometime(what: What) -> Self {
        Self { t0: i64::MIN, t1: i64::MAX, store: None, client: 0, what }
    }

    fn by(at: Timestamp, what: What) -> Self {
        Self { t1: at.as_millis(), ..Self::sometime(what) }
    }

    /// The task it is about.
    pub fn task(&self) -> Option<TaskId> {
        match self.what {
            What::Enqueue { task, .. }
            | What::Claim { task, .. }
            | What::Finish { task, .. }
            | What::Move { task, .. }
            | What::Read { task, .. }
            | What::Fire { task, .. } => Some(task),
            What::Beat { .. } | What::Quit { .. } => None,
        }
    }

    /// To whom a lease was given out.
    pub(super) fn holder(&self) -> Option<SessionId> {
        match self.what {
            What::Claim { session, .. } => session,
            _ => None,
        }
    }

    /// Whether it was surely over before `later` began.
    pub fn precedes(&self, later: &Self) -> bool {
        self.t1 < later.t0
    }
}

/// The fingerprint of the value that a task's record holds, by its inline bytes; `None` where there is none.
pub fn digest(head: &Head) -> Option<u64> {
    match head.result.as_ref()?.value.as_ref()? {
        Value::Inline(payload) => Some(fingerprint(&payload.bytes)),
        Value::Stored(_) => None,
    }
}

/// The fingerprint of a value: FNV-1a (Fowler, Noll, Vo 1991): equal bytes, equal fingerprint; on every machine.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// States as their names: histories are read by people too.
mod by_name {
    use omniq_model::State;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(state.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<State, D::Error> {
        let name = String::deserialize(from)?;
        State::from_name(&name).ok_or_else(|| D::Error::custom(format!("`{name}` is no state")))
    }
}
