//! Why a store did not do what it was asked to.

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

    /// What it means for the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Full { .. } => ErrorKind::Full,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Schema { .. } => ErrorKind::Schema,
            Self::Config(_) => ErrorKind::Config,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Closed(_) => ErrorKind::Closed,
        }
    }
}
