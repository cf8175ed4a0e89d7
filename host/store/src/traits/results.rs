//! Where the values of results live when they are not kept with the task.

use std::fmt;

use async_trait::async_trait;
use omniq_model::{Payload, Span, TaskId, Token};

use crate::Result;

/// Under what a result is kept: task and claim, so that two attempts never write to the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultKey {
    /// Of which task.
    pub task: TaskId,
    /// By which claim.
    pub token: Token,
}

/// A result before its task's end is committed: nobody sees it until the task's record refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedResult {
    /// Under what it is kept.
    pub key: ResultKey,
    /// The value.
    pub value: Payload,
    /// How long it is kept at least.
    pub ttl: Span,
}

/// Where results live.
///
/// # Errors
/// Of every call: [`Unavailable`](crate::ErrorKind::Unavailable) means that the outcome is unknown: repeat the same call.
#[async_trait]
pub trait ResultStore: fmt::Debug + Send + Sync + 'static {
    /// The backend's name.
    fn name(&self) -> &'static str;

    /// Keeps results. One that is kept already under its key stays as it is.
    async fn put(&self, results: Vec<StagedResult>) -> Result<()>;

    /// The results under these keys; `None` for one that is not there, or no more.
    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>>;

    /// Forgets all results of these tasks, whatever the claim.
    async fn remove(&self, tasks: &[TaskId]) -> Result<()>;

    /// Forgets results whose time is over, at most `max`; returns how many: fewer also where they are large, none only
    /// when there is none.
    async fn purge(&self, max: usize) -> Result<usize>;

    /// Lets go of files and connections.
    async fn close(&self) -> Result<()>;
}
