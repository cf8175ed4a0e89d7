//! Why the queue did not do what it was asked to: the message is for a person, the kind for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use omniq_model::{Digest, Kind, Name, State, TaskError, TaskId, TaskUsage};
use omniq_sandbox::inspect::{self, LookupError};
use omniq_sandbox::value;
use omniq_store::Refusal;

use crate::config;
use crate::worker::StartError;

/// The result of a queue's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. [`kind`](Self::kind) is for programs; the text says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store failed.
    #[error(transparent)]
    Store(StoreFailure),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A text or number that is not what it stands for.
    #[error("{0}")]
    Invalid(String),
    /// The file of a module cannot be read.
    #[error("the file `{path}` cannot be read")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The bytes are no component that can be run here.
    #[error(transparent)]
    Component(#[from] inspect::Error),
    /// The sandbox cannot do its part.
    #[error(transparent)]
    Sandbox(Arc<omniq_sandbox::Error>),
    /// Other bytes were pushed under the same name and version before.
    #[error(
        "`{name}@{version}` is {there} already, and this is {given}; push it under another version"
    )]
    VersionConflict {
        /// Of the module.
        name: Name,
        /// Of the module.
        version: Name,
        /// What is there.
        there: Digest,
        /// What was to be pushed.
        given: Digest,
    },
    /// No module has that name and version.
    #[error("{}", no_module(wanted, known))]
    NoModule {
        /// As it was asked for.
        wanted: String,
        /// The modules there are that are most like it, with their versions.
        known: Vec<String>,
    },
    /// The module has no such function, or several.
    #[error("{}", error.to_string().replacen("the component", &format!("the module `{module}`"), 1))]
    NoFunction {
        /// Where it was looked for.
        module: String,
        /// What there is instead.
        error: LookupError,
    },
    /// The module cannot be run that way.
    #[error("{0}")]
    Shape(String),
    /// The arguments do not fit the function.
    #[error("the arguments do not fit `{function}`: {error}")]
    Arguments {
        /// Which function.
        function: String,
        /// Where they do not, what is expected and what came.
        error: Arc<value::Error>,
    },
    /// The arguments or the result are of a shape that cannot be written or read.
    #[error("{0}")]
    Value(String),
    /// Another task has the same id.
    #[error("another task has the id `{0}`; give each task an id of its own, or none")]
    TaskConflict(TaskId),
    /// The store does not accept the task.
    #[error("the task `{id}` is not accepted: {reason}")]
    Refused {
        /// Which task.
        id: TaskId,
        /// Why.
        reason: Refusal,
    },
    /// There is no such task, or no more.
    #[error("there is no task `{0}`; it never was, or it ended so long ago that it was forgotten")]
    NoTask(TaskId),
    /// The task ended without a result.
    #[error("{0}")]
    NoResult(Box<NoResult>),
    /// The task succeeded, and its result is not where it was put.
    #[error("the result of task `{0}` is lost: the result store does not have it any more")]
    Lost(TaskId),
    /// The task has not ended in the time the caller waits.
    #[error("the task `{id}` is {state} after {}; it goes on, ask again later", config::quantity::Span(*waited))]
    WaitTimeout {
        /// Which task.
        id: TaskId,
        /// Where it stood at last.
        state: State,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The backend cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// A blocking call where it would block an async runtime.
    #[error(
        "`omniq::blocking` was called inside an async runtime, which it would block; use `omniq::Queue` there, \
         or move the call into `tokio::task::spawn_blocking`"
    )]
    InsideRuntime,
    /// The worker cannot be started.
    #[error(transparent)]
    Worker(Arc<StartError>),
    /// The machine refuses what the process needs.
    #[error("{what}")]
    Host {
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The queue has been closed.
    #[error("the queue has been closed")]
    Closed,
}

/// A store that failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreFailure {
    /// How.
    pub error: Arc<omniq_store::Error>,
    /// The task it was about, if it was about one. Where the outcome is unknown the task may or may not be in the store:
    /// enqueue it again under this id.
    pub task: Option<TaskId>,
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for StoreFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// A task that ended without a result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NoResult {
    /// Which.
    pub id: TaskId,
    /// Where it stands: failed, cancelled or expired.
    pub state: State,
    /// Why.
    pub error: TaskError,
    /// What its last attempt used.
    pub usage: TaskUsage,
    /// What its last attempt wrote to stderr, the end of it.
    pub stderr: String,
}

impl fmt::Display for NoResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.state {
            State::Cancelled => "was cancelled",
            State::Expired => "expired",
            _ => "failed",
        };
        write!(f, "the task `{}` {how}", self.id)?;
        if !self.error.message.is_empty() {
            write!(f, ": {}", self.error.message)?;
        }
        Ok(())
    }
}

impl Error {
    pub(crate) fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }

    /// The same, with the task it was about.
    pub(crate) fn about(mut self, id: TaskId) -> Self {
        if let Self::Store(failure) = &mut self {
            failure.task = Some(id);
        }
        self
    }

    /// What went wrong, as a program sees it. For a task that ended without a result: its own kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(_) | Self::Closed => Kind::Unavailable,
            Self::Config(_) | Self::Invalid(_) | Self::Shape(_) | Self::Unsupported(_) => {
                Kind::Usage
            }
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Kind::NotFound
            }
            Self::File { .. } | Self::Host { .. } | Self::Worker(_) | Self::InsideRuntime => {
                Kind::Host
            }
            Self::Component(error) => error.kind(),
            Self::Sandbox(error) => error.kind(),
            Self::VersionConflict { .. } | Self::TaskConflict(_) => Kind::Conflict,
            Self::NoModule { .. } | Self::NoFunction { .. } | Self::NoTask(_) => Kind::NotFound,
            Self::Arguments { error, .. } => error.kind(),
            Self::Value(_) => Kind::ArgsMismatch,
            Self::Refused { reason: Refusal::UnknownParent(_), .. } => Kind::NotFound,
            Self::NoResult(ended) => ended.kind(),
            Self::Lost(_) => Kind::Lost,
            Self::WaitTimeout { .. } => Kind::WaitTimeout,
        }
    }

    /// Whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(failure) => matches!(
                failure.error.kind(),
                omniq_store::ErrorKind::Unavailable
                    | omniq_store::ErrorKind::NotApplied
                    | omniq_store::ErrorKind::Full
            ),
            Self::WaitTimeout { .. } => true,
            _ => false,
        }
    }

    /// The task it is about, if it is about one.
    pub fn task_id(&self) -> Option<TaskId> {
        match self {
            Self::Store(failure) => failure.task,
            Self::TaskConflict(id) | Self::NoTask(id) | Self::Lost(id) => Some(*id),
            Self::Refused { id, .. } | Self::WaitTimeout { id, .. } => Some(*id),
            Self::NoResult(ended) => Some(ended.id),
            _ => None,
        }
    }
}

impl NoResult {
    /// The kind of its error; one of a newer version counts as the host's.
    pub fn kind(&self) -> Kind {
        self.error.kind().unwrap_or(match self.state {
            State::Cancelled => Kind::Cancelled,
            State::Expired => Kind::Expired,
            _ => Kind::Host,
        })
    }
}

impl From<omniq_store::Error> for Error {
    fn from(source: omniq_store::Error) -> Self {
        match source {
            omniq_store::Error::Closed(_) => Self::Closed,
            omniq_store::Error::Config(text) => Self::Invalid(text),
            error => Self::Store(StoreFailure { error: Arc::new(error), task: None }),
        }
    }
}

impl From<omniq_sandbox::Error> for Error {
    fn from(error: omniq_sandbox::Error) -> Self {
        match error {
            omniq_sandbox::Error::Inspect(error) => Self::Component(error),
            error => Self::Sandbox(Arc::new(error)),
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Pool(_) => Self::Unsupported(error.to_string()),
            StartError::Bounds { .. } => Self::invalid(error),
            error => Self::Worker(Arc::new(error)),
        }
    }
}

impl From<omniq_model::id::ParseNameError> for Error {
    fn from(error: omniq_model::id::ParseNameError) -> Self {
        Self::invalid(error)
    }
}

impl From<omniq_model::id::ParseTaskIdError> for Error {
    fn from(error: omniq_model::id::ParseTaskIdError) -> Self {
        Self::invalid(error)
    }
}

fn no_module(wanted: &str, known: &[String]) -> String {
    let start = format!("there is no module `{wanted}`");
    if known.is_empty() {
        return format!("{start}; push it first, with `omniq push FILE` or `Queue::push`");
    }
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("{start}; there is {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_it_is_about_and_whether_to_try_again() {
        let id = TaskId::derived(&[b"t"]);
        let cut = omniq_store::Error::unavailable("sqlite", "enqueue", std::io::Error::other("x"));
        let cut = Error::from(cut).about(id);
        assert!(cut.is_retryable());
        assert_eq!((cut.kind(), cut.task_id()), (Kind::Unavailable, Some(id)));
        let full = omniq_store::Error::Full { place: "disk".into(), reason: "r".into() };
        assert!(Error::from(full).is_retryable());
        assert!(!Error::NoTask(id).is_retryable());
        let ended = NoResult {
            id,
            state: State::Failed,
            error: TaskError::new(Kind::Trap, "the guest trapped"),
            usage: TaskUsage::default(),
            stderr: String::new(),
        };
        let error = Error::NoResult(Box::new(ended));
        assert_eq!(error.kind(), Kind::Trap);
        assert_eq!(error.to_string(), format!("the task `{id}` failed: the guest trapped"));
    }

    #[test]
    fn what_is_there_instead_of_a_module_is_said() {
        assert!(no_module("add", &[]).contains("omniq push FILE"));
        assert!(no_module("ad", &["add@1".into()]).ends_with("there is `add@1`"));
    }
}
