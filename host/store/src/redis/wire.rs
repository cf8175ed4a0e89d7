//! Tasks in the form the scripts keep them in (`lua/lib.lua` names the fields), and what is told to scripts.

use std::sync::Arc;

use omniq_model::{
    DecodeError, Head, Kind, Lane, OnParentFailure, Priority, Scope, SessionId, Span, State, Task,
    TaskError, TaskId, TaskResult, Timestamp, Token, record,
};

use super::fault::{Fault, Result};
use crate::{End, How, Info, Moved};

/// The end of time, as scripts count: the last whole number up to which a double is exact.
pub(super) const NEVER: u64 = (1 << 53) - 1;
/// Longer tasks are kept apart, so that no script that passes by reads them.
const LARGE: usize = 64 << 10;

const KEYED: u8 = 1;
const RUNS_ANYWAY: u8 = 2;
const FREED_BY_START: u8 = 4;
const FREED_BY_END: u8 = 8;
const LARGE_BODY: u8 = 16;
const LARGE_TAIL: u8 = 32;

/// Between tenant, queue and what follows; no name has it, and it comes before everything a name has.
const SEPARATOR: u8 = 1;

/// Appends a number of seven bytes; what is larger than the scripts' numbers is the end of time.
fn put(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.min(NEVER).to_be_bytes()[1..]);
}

/// A place in the order of arrival, or an instant, as it stands in members.
pub(super) fn seven(number: u64) -> Vec<u8> {
    number.min(NEVER).to_be_bytes()[1..].to_vec()
}

/// Milliseconds; the end of time for what is longer.
pub(super) fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(NEVER).min(NEVER)
}

/// An instant as scripts count; what was before the epoch is over anyway.
pub(super) fn instant(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0).min(NEVER)
}

pub(super) fn session(id: SessionId) -> [u8; 8] {
    id.get().to_be_bytes()
}

/// A lane as its members begin.
pub(super) fn lane(lane: &Lane) -> Vec<u8> {
    [lane.tenant.as_str().as_bytes(), &[SEPARATOR], lane.queue.as_str().as_bytes(), &[SEPARATOR]]
        .concat()
}

/// How the lanes of a tenant begin, and how those of a queue end.
pub(super) fn lane_parts(filter: &crate::Filter) -> (Vec<u8>, Vec<u8>) {
    let begins =
        filter.tenant.as_ref().map(|name| [name.as_str().as_bytes(), &[SEPARATOR]].concat());
    let ends = filter
        .queue
        .as_ref()
        .map(|name| [&[SEPARATOR], name.as_str().as_bytes(), &[SEPARATOR]].concat());
    (begins.unwrap_or_default(), ends.unwrap_or_default())
}

pub(super) fn read_lane(bytes: &[u8]) -> Result<Lane> {
    let damaged = || Fault::Corrupt(format!("`{}` is no lane", bytes.escape_ascii()));
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    let mut names = text.split(char::from(SEPARATOR)).map(str::parse);
    match (names.next(), names.next()) {
        (Some(Ok(tenant)), Some(Ok(queue))) => Ok(Lane { tenant, queue }),
        _ => Err(damaged()),
    }
}

/// A unique key, as a name of fixed length that follows from tenant and key.
pub(super) fn unique_key(task: &Task) -> Option<TaskId> {
    let unique = task.unique.as_ref()?;
    Some(TaskId::derived(&[b"unique", task.lane.tenant.as_str().as_bytes(), unique.key.as_bytes()]))
}

/// A task on its way in.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The arguments of a script that describe it.
    pub args: Vec<Vec<u8>>,
    /// It must come after others of its call.
    pub has_parents: bool,
}

impl Arrival {
    pub(super) fn of(task: &Task) -> Self {
        let body = task.encode();
        let large = body.len() > LARGE;
        let mut blob = Vec::with_capacity(body.len() + 96);
        blob.extend_from_slice(task.id.as_bytes());
        put(&mut blob, task.run_at.map_or(0, instant));
        put(&mut blob, millis(task.delay.get()));
        blob.push(u8::try_from(Priority::MAX.get() - task.priority.get()).unwrap_or(0));
        blob.push(flags(task) | if large { LARGE_BODY } else { 0 });
        put(&mut blob, task.ttl.map_or(0, |ttl| millis(ttl.get()).saturating_add(1)));
        put(&mut blob, millis(task.result_ttl.get()));
        blob.extend_from_slice(&task.retry.crashes.to_be_bytes());
        blob.extend_from_slice(&lane(&task.lane));
        blob.push(0);
        if let (Some(key), Some(unique)) = (unique_key(task), &task.unique) {
            blob.extend_from_slice(key.as_bytes());
            let window = unique.scope == Scope::Window;
            put(&mut blob, if window { millis(unique.window.get()).saturating_add(1) } else { 0 });
        }
        if large {
            blob.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        } else {
            blob.extend_from_slice(&body);
        }
        let parents: Vec<u8> = task.after.iter().flat_map(|id| *id.as_bytes()).collect();
        let has_parents = !parents.is_empty();
        let mut args = vec![blob, parents];
        if large {
            args.push(body);
        }
        Self { args, has_parents }
    }
}

fn flags(task: &Task) -> u8 {
    let scope = task.unique.as_ref().map_or(0, |unique| match unique.scope {
        Scope::UntilStarted => KEYED | FREED_BY_START | FREED_BY_END,
        Scope::Window => KEYED,
        // What a newer version means is not known here: until the end is the careful choice.
        Scope::UntilFinished | Scope::Other(_) => KEYED | FREED_BY_END,
    });
    let runs = task.on_parent_failure == OnParentFailure::Run;
    scope | if runs { RUNS_ANYWAY } else { 0 }
}

/// The end of an attempt, as a script takes it.
pub(super) fn end(end: &End) -> Vec<u8> {
    let (how, after, tail) = match &end.how {
        How::Succeeded(result) => (b's', 0, result_tail(result)),
        How::Failed(result) => (b'f', 0, result_tail(result)),
        How::Cancelled(result) => (b'c', 0, result_tail(result)),
        How::Retry { after, error } => (b'r', millis(*after), error_tail(error)),
        How::Release { after, error } => {
            (b'b', millis(*after), error.as_ref().map(error_tail).unwrap_or_default())
        }
    };
    let mut bytes = claim(end.id, end.token);
    bytes.push(how);
    put(&mut bytes, after);
    bytes.extend_from_slice(&tail);
    bytes
}

fn result_tail(result: &TaskResult) -> Vec<u8> {
    [b"r", &record::encode(result)[..]].concat()
}

fn error_tail(error: &TaskError) -> Vec<u8> {
    [b"e", &record::encode(error)[..]].concat()
}

/// Id, fence and nonce. A fence that no script can have given is none.
pub(super) fn claim(id: TaskId, token: Token) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(id.as_bytes());
    put(&mut bytes, if token.fence < NEVER { token.fence } else { 0 });
    bytes.extend_from_slice(&token.nonce.to_be_bytes());
    bytes
}

/// Reads what scripts wrote, from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (front, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Fault::Corrupt("a record ends in its midst".to_owned()))?;
        self.0 = rest;
        Ok(front)
    }

    pub(super) fn number(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn small(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.number(4)?).unwrap_or(u32::MAX))
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn time(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_millis(self.number(7)?.cast_signed()))
    }

    pub(super) fn id(&mut self) -> Result<TaskId> {
        let bytes = self.take(16)?.try_into();
        bytes.map(TaskId::from_bytes).map_err(|_| Fault::Corrupt("an id has not 16 bytes".into()))
    }

    pub(super) fn state(&mut self) -> Result<State> {
        Ok(State::from_number(self.byte()?))
    }

    pub(super) fn token(&mut self) -> Result<Token> {
        Ok(Token { fence: self.number(7)?, nonce: self.number(8)? })
    }

    fn until_zero(&mut self) -> Result<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| Fault::Corrupt("a lane has no end".into()))?)?;
        self.take(1)?;
        Ok(text)
    }
}

/// What a task's record begins with from its arrival on.
#[derive(Debug)]
pub(super) struct First<'a> {
    pub state: State,
    pub seq: u64,
    pub created: Timestamp,
    due: Timestamp,
    pub flags: u8,
    pub lane: &'a [u8],
}

impl<'a> First<'a> {
    /// Reads it; what follows it is left.
    pub(super) fn read(bytes: &mut Bytes<'a>) -> Result<Self> {
        let state = bytes.state()?;
        bytes.take(4)?;
        let (seq, created, due) = (bytes.number(7)?, bytes.time()?, bytes.time()?);
        bytes.take(8)?; // until when it must start, how urgent it is
        let flags = bytes.byte()?;
        bytes.take(18)?; // time to live, how long it is kept, budget of crashes
        Ok(Self { state, seq, created, due, flags, lane: bytes.until_zero()? })
    }

    fn skip_key(&self, bytes: &mut Bytes<'_>) -> Result<()> {
        if self.flags & KEYED != 0 {
            bytes.take(23)?;
        }
        Ok(())
    }
}

/// A task as it was asked for, of its stored form; `None`: it is kept apart.
pub(super) fn body(stored: &[u8]) -> Result<(First<'_>, Option<&[u8]>)> {
    let mut bytes = Bytes(stored);
    let first = First::read(&mut bytes)?;
    first.skip_key(&mut bytes)?;
    let apart = first.flags & LARGE_BODY != 0;
    Ok((first, (!apart).then_some(bytes.0)))
}

pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Arc<Task>, DecodeError> {
    Task::decode(bytes).map(Arc::new)
}

/// A task as scripts answer it: its head, if it has moved since it arrived, and its stored form.
#[derive(Debug)]
pub(super) struct Raw {
    pub id: TaskId,
    pub head: Vec<u8>,
    pub stored: Vec<u8>,
    /// Parts that were kept apart.
    pub large_body: Option<Vec<u8>>,
    pub large_tail: Option<Vec<u8>>,
}

impl Raw {
    pub(super) fn new(id: TaskId, head: Vec<u8>, stored: Vec<u8>) -> Self {
        Self { id, head, stored, large_body: None, large_tail: None }
    }

    /// Which parts of it are kept apart: of its task, and of how it ended.
    pub(super) fn apart(&self) -> Result<(bool, bool)> {
        let (stored, _) = body(&self.stored)?;
        let tail =
            !self.head.is_empty() && First::read(&mut Bytes(&self.head))?.flags & LARGE_TAIL != 0;
        Ok((stored.flags & LARGE_BODY != 0, tail))
    }

    /// When it expires as long as no attempt counts.
    pub(super) fn expires(&self) -> Result<Option<Timestamp>> {
        let mut bytes = Bytes(if self.head.is_empty() { &self.stored } else { &self.head });
        bytes.take(26)?; // state, for how many it waits, place, arrival, when it is due
        let expires = bytes.time()?;
        Ok((expires.as_millis() > 0).then_some(expires))
    }

    /// Bytes of all of it.
    pub(super) fn size(&self) -> usize {
        let apart = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        self.head.len() + self.stored.len() + apart(&self.large_body) + apart(&self.large_tail)
    }

    /// What a caller sees of it.
    pub(super) fn info(&self) -> Result<Info> {
        let (first, asked_for) = body(&self.stored)?;
        let task = decode(asked_for.or(self.large_body.as_deref()).unwrap_or_default());
        let lane = read_lane(first.lane)?;
        let starts = task.as_ref().ok().map(|task| task.starts_at(first.created));
        let mut head = if self.head.is_empty() { fresh(&first) } else { self.moved()? };
        // Beyond the end of time as scripts count: as it was asked for.
        let beyond = |at: &Timestamp| at.as_millis().cast_unsigned() >= NEVER;
        if head.run_at.as_ref().is_some_and(beyond) {
            head.run_at = Some(starts.filter(beyond).unwrap_or(Timestamp::from_millis(i64::MAX)));
        }
        Ok(Info { id: self.id, lane, task, head })
    }

    /// The head of a task that has moved since it arrived.
    fn moved(&self) -> Result<Head> {
        let mut bytes = Bytes(&self.head);
        let first = First::read(&mut bytes)?;
        let (attempt, crashes) = (bytes.small()?, bytes.small()?);
        let token = bytes.token()?;
        let holder = SessionId::new(bytes.number(8)?);
        let (started, finished) = (bytes.time()?, bytes.time()?);
        let cancel_requested = bytes.byte()? != 0;
        bytes.take(1)?;
        first.skip_key(&mut bytes)?;
        let tail = tail(self.large_tail.as_deref().unwrap_or(bytes.0));
        let ended = first.state.is_terminal();
        let (error, result) = match tail {
            Tail::Result(result) if ended => (result.error.clone(), Some(result)),
            Tail::Result(result) => (result.error, None),
            Tail::Error(error) if ended => (Some(error.clone()), Some(TaskResult::failure(error))),
            Tail::Error(error) => (Some(error), None),
            Tail::Nothing => (None, None),
        };
        Ok(Head {
            attempt,
            crashes,
            fence: token.fence,
            lease: (first.state == State::Running).then_some((holder, token)),
            cancel_requested,
            started: (token.fence > 0).then_some(started),
            finished: ended.then_some(finished),
            error,
            result,
            ..fresh(&first)
        })
    }
}

/// The head of a task that has not moved since it arrived.
fn fresh(first: &First<'_>) -> Head {
    Head {
        state: first.state,
        seq: first.seq,
        attempt: 0,
        crashes: 0,
        fence: 0,
        lease: None,
        cancel_requested: false,
        created: first.created,
        run_at: (first.state == State::Scheduled).then_some(first.due),
        started: None,
        finished: None,
        error: None,
        result: None,
    }
}

/// How a task ended, or why its latest attempt gave no result.
enum Tail {
    Nothing,
    Result(TaskResult),
    Error(TaskError),
}

/// What cannot be read says so, instead of hiding its task.
fn tail(bytes: &[u8]) -> Tail {
    let Some((letter, rest)) = bytes.split_first() else { return Tail::Nothing };
    let unreadable = |error: DecodeError| TaskError::new(Kind::Undecodable, error.to_string());
    match letter {
        b'r' => Tail::Result(
            record::decode("result", rest)
                .unwrap_or_else(|error| TaskResult::failure(unreadable(error))),
        ),
        b'e' => Tail::Error(record::decode("error", rest).unwrap_or_else(unreadable)),
        b'c' => Tail::Error(TaskError::new(Kind::Cancelled, "it was called off")),
        b'x' => {
            Tail::Error(TaskError::new(Kind::Expired, "it did not start within its time to live"))
        }
        b'p' => Tail::Error(parent_failed(rest)),
        b'w' => Tail::Error(crashed(Bytes(rest).small().unwrap_or(0))),
        other => Tail::Error(TaskError::new(
            Kind::Undecodable,
            format!("why it has no result is written as `{other}`, which a newer version may know"),
        )),
    }
}

fn parent_failed(bytes: &[u8]) -> TaskError {
    let mut bytes = Bytes(bytes);
    let message = match (bytes.id(), bytes.state()) {
        (Ok(parent), Ok(state)) => format!("task `{parent}`, which it waited for, has {state}"),
        _ => "a task it waited for did not succeed".to_owned(),
    };
    TaskError::new(Kind::ParentFailed, message)
}

fn crashed(crashes: u32) -> TaskError {
    let times = if crashes == 1 { "once".to_owned() } else { format!("{crashes} times") };
    TaskError::new(Kind::Crashed, format!("its worker died under it {times}"))
}

/// A move as a script tells it.
pub(super) fn moved(bytes: &[u8]) -> Result<Moved> {
    let mut bytes = Bytes(bytes);
    let (id, fence, attempt) = (bytes.id()?, bytes.number(7)?, bytes.small()?);
    let (from, to) = (bytes.state()?, bytes.state()?);
    Ok(Moved { id, lane: read_lane(bytes.0)?, fence, attempt, from, to })
}

/// A span as a script takes it.
pub(super) fn span(span: Span) -> u64 {
    millis(span.get())
}
