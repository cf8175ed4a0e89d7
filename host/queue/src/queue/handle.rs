//! The handle of one task: its result, its state, its end.

use std::fmt;
use std::time::{Duration, Instant};

use omniq_model::{Format, Payload, State, TaskError, TaskId, TaskResult, Value};
use omniq_sandbox::value::rust;
use omniq_store::{Changes, Filter, Info, ResultKey};
use serde::de::value::{BytesDeserializer, Error as BytesError};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::{Bulk, Queue};
use crate::error::{Error, NoResult, Result};

/// One task of a queue. Cheap to clone, and nothing happens to the task when it is dropped.
#[derive(Clone)]
pub struct TaskHandle {
    queue: Queue,
    id: TaskId,
    is_new: bool,
    /// What the store had told of before the task was there, and when that was.
    before: Option<(Changes, Instant)>,
}

/// For how long after an enqueue its task is taken for one that has not ended while the store tells of no end. Not for longer: a
/// store that nobody waits at need not hear of what other processes do.
const JUST: Duration = Duration::from_millis(20);

impl TaskHandle {
    pub(super) fn new(queue: Queue, id: TaskId, is_new: bool) -> Self {
        Self { queue, id, is_new, before: None }
    }

    /// Of a task that is in the store by now, and was not when it told of those changes, at that instant.
    pub(super) fn added_after(self, before: (Changes, Instant)) -> Self {
        Self { before: self.is_new.then_some(before), ..self }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whether the enqueue that gave this handle put the task into the store. Otherwise it was there already: the same
    /// task under the same id, or another one that holds its unique key.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Waits for the task's end and gives what its function returned, the `ok` of a `result`; for a command, what it wrote
    /// to stdout, as a `String` or `serde_bytes::ByteBuf`.
    ///
    /// Names in the value are WIT's, so enums and structs say `#[serde(rename_all = "kebab-case")]`. Dropping the future
    /// gives up the wait and nothing else; see [`wait`](Self::wait) for one that ends by itself.
    ///
    /// # Errors
    /// [`NoResult`](Error::NoResult) if the task failed, was cancelled or expired; [`Lost`](Error::Lost) if the result was
    /// there and is no more; [`NoTask`](Error::NoTask); [`Value`](Error::Value) if it is no `T`; or a store failed.
    pub async fn result<T: DeserializeOwned>(&self) -> Result<T> {
        read(&self.result_payload().await?)
    }

    /// As [`result`](Self::result), as it is stored: canonical CBOR, or the bytes a command wrote to stdout.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    pub async fn result_payload(&self) -> Result<Payload> {
        let (state, result) = self.ended().await?;
        self.payload(state, result).await
    }

    /// Waits until the task has ended, at most for `timeout`; tells how it ended. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// [`WaitTimeout`](Error::WaitTimeout) if it has not ended by then, [`NoTask`](Error::NoTask), or a store failed.
    pub async fn wait(&self, timeout: Duration) -> Result<State> {
        match tokio::time::timeout(timeout, self.ended()).await {
            Ok(ended) => Ok(ended?.0),
            Err(_) => {
                let state = self.status().await?;
                if state.is_terminal() {
                    return Ok(state);
                }
                Err(Error::WaitTimeout { id: self.id, state, waited: timeout })
            }
        }
    }

    /// Where the task stands.
    ///
    /// # Errors
    /// [`NoTask`](Error::NoTask), or the store failed.
    pub async fn status(&self) -> Result<State> {
        Ok(self.info().await?.head.state)
    }

    /// The task with all that happened to it.
    ///
    /// # Errors
    /// [`NoTask`](Error::NoTask), or the store failed.
    pub async fn info(&self) -> Result<Info> {
        self.queue.get(self.id).await?.ok_or(Error::NoTask(self.id))
    }

    /// Calls the task off: one that waits is cancelled at once, one that runs is stopped within a second or so, one that
    /// has ended stays as it is. Tells what was done.
    ///
    /// # Errors
    /// [`NoTask`](Error::NoTask), or the store failed.
    pub async fn cancel(&self) -> Result<Bulk> {
        self.known(self.queue.cancel(&self.only()).await?)
    }

    /// Makes the task ready again with fresh budgets, if it has failed, was cancelled or expired. Tells what was done.
    ///
    /// # Errors
    /// [`NoTask`](Error::NoTask), or the store failed.
    pub async fn retry(&self) -> Result<Bulk> {
        self.known(self.queue.retry(&self.only()).await?)
    }

    fn only(&self) -> Filter {
        Filter { ids: vec![self.id], ..Filter::default() }
    }

    /// A task that was not even passed over does not exist.
    fn known(&self, done: Bulk) -> Result<Bulk> {
        if done.is_empty() { Err(Error::NoTask(self.id)) } else { Ok(done) }
    }

    async fn ended(&self) -> Result<(State, Option<TaskResult>)> {
        let ends = &self.queue.shared().ends;
        let wait = match self.before {
            Some((before, at)) if at.elapsed() < JUST => ends.wait_new(self.id, before),
            _ => ends.wait(self.id),
        };
        let ended = self.queue.unless_closed(wait).await?.ok_or(Error::NoTask(self.id))?;
        Ok((ended.state, ended.result))
    }

    async fn payload(&self, state: State, result: Option<TaskResult>) -> Result<Payload> {
        let result = match result {
            Some(result) => result,
            None => {
                let info = self.queue.get(self.id).await?.ok_or(Error::NoTask(self.id))?;
                info.head.result.unwrap_or_default()
            }
        };
        self.queue.load(self.id, state, result).await
    }
}

impl Queue {
    /// The value of a task that ended in `state` with `result`.
    ///
    /// # Errors
    /// As [`TaskHandle::result`].
    pub async fn load(&self, id: TaskId, state: State, result: TaskResult) -> Result<Payload> {
        if state != State::Succeeded {
            return Err(Error::NoResult(Box::new(no_result(id, state, result))));
        }
        let stored = match result.value {
            Some(Value::Inline(payload)) => return Ok(payload),
            Some(Value::Stored(stored)) => stored,
            None => return Err(Error::Lost(id)),
        };
        let Some(results) = &self.shared().stores.results else { return Err(Error::Lost(id)) };
        let key = ResultKey { task: id, token: stored.token };
        let found = results.get(&[key]).await.map_err(|error| Error::from(error).about(id))?;
        found.into_iter().next().flatten().ok_or(Error::Lost(id))
    }
}

fn no_result(id: TaskId, state: State, result: TaskResult) -> NoResult {
    let error = result.error.unwrap_or_else(|| TaskError {
        kind: String::from(match state {
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            _ => "host",
        }),
        ..TaskError::new(omniq_model::Kind::Host, "")
    });
    NoResult { id, state, error, usage: result.usage, stderr: result.stderr }
}

/// A stored value as a Rust one.
fn read<T: DeserializeOwned>(payload: &Payload) -> Result<T> {
    let ty = std::any::type_name::<T>();
    match payload.format {
        Format::Cbor => {
            rust::result(&payload.bytes).map_err(|error| Error::Value(error.to_string()))
        }
        Format::Json => serde_json::from_slice(&payload.bytes)
            .map_err(|error| Error::Value(format!("the value cannot be read as `{ty}`: {error}"))),
        Format::Raw => {
            let bytes: BytesDeserializer<'_, BytesError> =
                payload.bytes.as_slice().into_deserializer();
            T::deserialize(bytes).map_err(|error| {
                Error::Value(format!("the output cannot be read as `{ty}`: {error}"))
            })
        }
        Format::Other(number) => {
            let text =
                format!("the result has the format {number}, which this version does not know");
            Err(Error::Value(text))
        }
    }
}

impl From<&TaskHandle> for TaskId {
    fn from(handle: &TaskHandle) -> Self {
        handle.id
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskHandle").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_wrote_is_text_or_bytes() {
        let payload = Payload::raw(*b"3 words\n");
        assert_eq!(read::<String>(&payload).unwrap(), "3 words\n");
        assert_eq!(read::<serde_bytes::ByteBuf>(&payload).unwrap().as_ref(), b"3 words\n");
        assert!(read::<u32>(&payload).unwrap_err().to_string().contains("u32"));
        assert!(read::<String>(&Payload::raw([0xff])).is_err());
        assert_eq!(read::<()>(&Payload::cbor([0xf6])).unwrap(), ());
    }
}
