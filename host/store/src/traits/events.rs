//! Where events live.

use std::fmt;

use async_trait::async_trait;
use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp};

use crate::Result;

/// Which events. Empty parts mean any; all parts must fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of one of these kinds.
    pub kinds: Vec<EventKind>,
    /// At or after this instant.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
}

/// Where events live.
///
/// # Errors
/// Of every call: [`Unavailable`](crate::ErrorKind::Unavailable) means that the outcome is unknown: repeat the same call.
#[async_trait]
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// The backend's name.
    fn name(&self) -> &'static str;

    /// Keeps events; one that is kept already (same task, fence and kind) stays as it is. An end that says when its attempt
    /// [began](TaskEvent::began) is two.
    async fn append(&self, events: Vec<TaskEvent>) -> Result<()>;

    /// Events that fit, in the order of their time, at most `max`, after the position `after`; each with its position.
    async fn query(
        &self,
        filter: &EventFilter,
        after: Option<u64>,
        max: usize,
    ) -> Result<Vec<(u64, TaskEvent)>>;

    /// Forgets events before `before`, at most `max`; returns how many.
    ///
    /// A store that keeps events by the hour or by the day forgets them so: those of an hour or day that is not all
    /// before `before` stay, and of the last one that it forgets it forgets more than `max`.
    async fn purge(&self, before: Timestamp, max: usize) -> Result<usize>;

    /// Up to where the repair from the task store has come: ends up to this instant and id are all there.
    async fn watermark(&self) -> Result<(Timestamp, TaskId)>;

    /// Moves the watermark on; it never goes back.
    async fn set_watermark(&self, mark: (Timestamp, TaskId)) -> Result<()>;

    /// Lets go of files and connections.
    async fn close(&self) -> Result<()>;
}
