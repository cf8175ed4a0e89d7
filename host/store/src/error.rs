//! Why a store did not do what it was asked to.

use std::fmt;
use std::time::Duration;

/// Any error there may be behind one of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a store's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It did not answer, so the outcome is unknown: repeat the same call, later.
    Unavailable,
    /// It surely did nothing: it could not be reached, or was not asked because it has not answered for a while. The same
    /// call may come later, or another one in its place.
    NotApplied,
    /// Another process has taken its place over: what this one holds is void. Open it again.
    Fenced,
    /// It has no room left. New tasks are refused first, so that running ones can still end.
    Full,
    /// What it holds is damaged.
    Corrupt,
    /// It was written by a version that this one cannot work with.
    Schema,
    /// It is not set up so that it could be used.
    Config,
    /// The backend cannot do this.
    Unsupported,
    /// It has been closed.
    Closed,
}

impl ErrorKind {
    /// Whether the same call may succeed later, without anybody changing anything.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Unavailable | Self::NotApplied)
    }

    /// Whether the call may have been carried out although it failed.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

/// Why a call failed: the message is for a person, the kind for programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend did not answer, so the outcome is unknown.
    #[error("{backend} could not {action}")]
    Unavailable {
        /// Which backend.
        backend: &'static str,
        /// What it was asked to do.
        action: &'static str,
        /// Why it could not.
        source: BoxError,
    },
    /// The backend was not reached: it surely did nothing.
    #[error("{backend} could not be reached to {action}")]
    NotApplied {
        /// Which backend.
        backend: &'static str,
        /// What it was to be asked to do.
        action: &'static str,
        /// Why it could not be reached.
        source: BoxError,
    },
    /// The backend was not asked, because it has failed for a while: it surely did nothing.
    #[error(
        "{backend} was not asked to {action}: it has failed for {} ({reason}); try again in {}",
        Rough(*since), Rough(*retry_after)
    )]
    Resting {
        /// Which backend.
        backend: &'static str,
        /// What it was to be asked to do.
        action: &'static str,
        /// For how long it has failed.
        since: Duration,
        /// How it failed at last.
        reason: String,
        /// When it makes sense to try again.
        retry_after: Duration,
    },
    /// Another process has taken over.
    #[error("{place} was taken over by another process: {reason}; open it again")]
    Fenced {
        /// What was taken over.
        place: String,
        /// How that showed.
        reason: String,
    },
    /// There is no room left.
    #[error("{place} is full: {reason}; free some space, or let finished tasks expire sooner")]
    Full {
        /// What is full.
        place: String,
        /// How that showed.
        reason: String,
    },
    /// What is stored is damaged.
    #[error(
        "{place} is damaged: {reason}; restore it from a backup, or move it away to begin anew"
    )]
    Corrupt {
        /// What is damaged.
        place: String,
        /// How that showed.
        reason: String,
    },
    /// Written by a version that this one cannot work with.
    #[error("{place} has schema {found}, and this omniq works with {oldest} to {newest}; {next}")]
    Schema {
        /// What has it.
        place: String,
        /// Its schema.
        found: u32,
        /// The oldest one this version works with.
        oldest: u32,
        /// The newest one.
        newest: u32,
        /// What to do next.
        next: &'static str,
    },
    /// It is not set up so that it could be used.
    #[error("{0}")]
    Config(String),
    /// The backend cannot do this.
    #[error("{backend} cannot {action}")]
    Unsupported {
        /// Which backend.
        backend: &'static str,
        /// What it was asked to do.
        action: &'static str,
    },
    /// The store has been closed.
    #[error("the {0} store has been closed")]
    Closed(&'static str),
}

impl Error {
    /// An answer that never came.
    pub fn unavailable(
        backend: &'static str,
        action: &'static str,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Unavailable { backend, action, source: source.into() }
    }

    /// A call that surely did nothing: the connection was refused, say, before anything was sent.
    pub fn not_applied(
        backend: &'static str,
        action: &'static str,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::NotApplied { backend, action, source: source.into() }
    }

    /// When it makes sense to try again, where the store says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Resting { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// What it means for the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::NotApplied { .. } | Self::Resting { .. } => ErrorKind::NotApplied,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Full { .. } => ErrorKind::Full,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Schema { .. } => ErrorKind::Schema,
            Self::Config(_) => ErrorKind::Config,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Closed(_) => ErrorKind::Closed,
        }
    }
}

/// What an error says, and what its causes say that it does not say itself, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// A time for people: in whole seconds, or tenths where it is short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rough(pub Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0..10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            10..120 => write!(f, "{} s", self.0.as_secs()),
            _ => write!(f, "{} min", self.0.as_secs() / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_rests_says_since_when_why_and_until_when() {
        let error = Error::Resting {
            backend: "postgres",
            action: "enqueue tasks",
            since: Duration::from_secs(125),
            reason: "connection refused".into(),
            retry_after: Duration::from_millis(1500),
        };
        let text = "postgres was not asked to enqueue tasks: it has failed for 2 min (connection refused); try again in 1.5 s";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::NotApplied);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        let cause = std::io::Error::other("connection refused");
        let error = Error::unavailable("redis", "claim tasks", cause);
        assert_eq!(chain(&error), "redis could not claim tasks: connection refused");
        let error = Error::unavailable("redis", "claim tasks", "redis could not claim tasks");
        assert_eq!(chain(&error), "redis could not claim tasks");
    }

    #[test]
    fn only_an_answer_that_never_came_is_unknown() {
        let cut = Error::unavailable("redis", "finish tasks", "the connection was cut");
        let refused = Error::not_applied("redis", "finish tasks", "connection refused");
        assert!(cut.kind().is_passing() && cut.kind().is_unknown());
        assert!(refused.kind().is_passing() && !refused.kind().is_unknown());
        for kind in [ErrorKind::Full, ErrorKind::Fenced, ErrorKind::Config, ErrorKind::Closed] {
            assert!(!kind.is_passing() && !kind.is_unknown());
        }
    }
}
