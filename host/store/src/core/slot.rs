//! One task in memory, and where all of them are.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use omniq_model::{
    Head, Payload, Priority, SessionId, State, Task, TaskError, TaskId, TaskResult, Timestamp,
    Token, Value,
};

use super::lanes::LaneIx;
use crate::{Info, Moved};

/// Where a task's slot is. Used again after the task was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ix(u32);

/// One task. Smaller than [`Head`]: there may be millions.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    // What most calls need stands here once more: a look into the task itself costs a cache miss or two.
    pub id: TaskId,
    /// Its place in its lane; see [`place`].
    pub place: u64,
    /// Whether it has a unique key at all.
    pub keyed: bool,
    pub task: Arc<Task>,
    pub lane: LaneIx,
    pub state: State,
    pub seq: u64,
    pub attempt: u32,
    pub crashes: u32,
    /// Parents that have not ended.
    pub unmet: u32,
    /// The latest claim; a fence of 0 means never claimed.
    pub token: Token,
    /// Who holds it, while it runs.
    pub session: Option<SessionId>,
    /// Whether the latest claim was ended by [`finish`](super::Core::finish).
    pub committed: bool,
    pub cancel_requested: bool,
    pub created: Timestamp,
    /// While it is scheduled.
    pub run_at: Option<Timestamp>,
    /// When it expires, as long as no attempt counts.
    pub expires: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    /// Why the latest attempt gave no result; at the end it stands in the result.
    pub error: Option<Box<TaskError>>,
    pub result: Option<Arc<TaskResult>>,
}

impl Slot {
    /// About how many bytes a caller is given of it.
    pub(super) fn weight(&self) -> usize {
        const RECORD: usize = 500;
        let value = self.result.as_ref().and_then(|result| result.value.as_ref());
        let inline = match value {
            Some(Value::Inline(payload)) => value_len(payload),
            _ => 0,
        };
        RECORD.saturating_add(value_len(&self.task.args)).saturating_add(inline)
    }

    /// When it expires from here: only before it has started.
    pub(super) fn expires_now(&self) -> Option<Timestamp> {
        let waits = matches!(self.state, State::Blocked | State::Scheduled | State::Ready);
        self.expires.filter(|_| waits && self.attempt == 0)
    }

    /// When it is forgotten, once it has ended.
    pub(super) fn kept_until(&self) -> Option<Timestamp> {
        self.finished.map(|finished| finished + self.task.result_ttl.get())
    }

    /// Whether `token` is of its latest claim.
    pub(super) fn claimed_by(&self, token: Token) -> bool {
        self.token.fence > 0 && self.token == token
    }

    /// What a caller sees of it.
    pub(super) fn info(&self) -> Info {
        let result_error = || self.result.as_ref().and_then(|result| result.error.clone());
        Info {
            id: self.id,
            lane: self.task.lane.clone(),
            task: Ok(Arc::clone(&self.task)),
            head: Head {
                state: self.state,
                seq: self.seq,
                attempt: self.attempt,
                crashes: self.crashes,
                fence: self.token.fence,
                lease: self.session.map(|session| (session, self.token)),
                cancel_requested: self.cancel_requested,
                created: self.created,
                run_at: self.run_at,
                started: self.started,
                finished: self.finished,
                error: self.error.as_deref().cloned().or_else(result_error),
                result: self.result.as_deref().cloned(),
            },
        }
    }

    /// What a caller is told about a move of it from `from`.
    pub(super) fn moved(&self, from: State) -> Moved {
        Moved {
            id: self.id,
            lane: self.task.lane.clone(),
            fence: self.token.fence,
            attempt: self.attempt,
            from,
            to: self.state,
        }
    }
}

/// How many bytes a value has, wherever they are.
fn value_len(payload: &Payload) -> usize {
    #[cfg(any(feature = "nats", feature = "object"))]
    if let Ok(Some(outside)) = crate::log::outside::Outside::of(payload) {
        return usize::try_from(outside.size).unwrap_or(usize::MAX);
    }
    payload.bytes.len()
}

/// A task's place in its lane: the highest priority first, then the order of arrival.
pub(super) fn place(priority: Priority, seq: u64) -> u64 {
    const ORDER_BITS: u32 = 56; // 2^56 tasks: more than two thousand years of a million a second
    let rank = u64::try_from(Priority::MAX.get() - priority.get()).unwrap_or(0);
    rank << ORDER_BITS | seq
}

/// All tasks, each at its place as long as it exists.
///
/// A clone shares everything with its original. Whichever of them changes a task first copies the few that lie beside it, so
/// that an image of millions of tasks holds nobody up.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    chunks: Vec<Arc<[Option<Slot>]>>,
    free: Vec<Ix>,
    /// Places there are, free ones included.
    len: usize,
}

/// Tasks that are copied together. Larger ones make taking an image quicker, and the first change after it slower.
const CHUNK: usize = 128;

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> Ix {
        let ix = self.free.pop().unwrap_or_else(|| {
            let ix = u32::try_from(self.len).expect("memory is full before 2^32 tasks are");
            if self.len.is_multiple_of(CHUNK) {
                self.chunks.push(std::iter::repeat_with(|| None).take(CHUNK).collect());
            }
            self.len += 1;
            Ix(ix)
        });
        *self.place_mut(ix) = Some(slot);
        ix
    }

    pub(super) fn remove(&mut self, ix: Ix) -> Option<Slot> {
        let slot = self.place_mut(ix).take();
        self.free.push(ix);
        slot
    }

    /// All of them, in no order.
    #[cfg(any(test, feature = "nats", feature = "object"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ix, &Slot)> {
        let places = self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate();
        places.filter_map(|(ix, slot)| Some((Ix(ix as u32), slot.as_ref()?)))
    }

    fn place_mut(&mut self, ix: Ix) -> &mut Option<Slot> {
        let place = ix.0 as usize;
        &mut Arc::make_mut(&mut self.chunks[place / CHUNK])[place % CHUNK]
    }
}

impl Index<Ix> for Slots {
    type Output = Slot;

    fn index(&self, ix: Ix) -> &Slot {
        let place = ix.0 as usize;
        let slot = &self.chunks[place / CHUNK][place % CHUNK];
        slot.as_ref().expect("only tasks that exist are in an index")
    }
}

impl IndexMut<Ix> for Slots {
    fn index_mut(&mut self, ix: Ix) -> &mut Slot {
        self.place_mut(ix).as_mut().expect("only tasks that exist are in an index")
    }
}
