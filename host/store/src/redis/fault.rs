//! What the server's errors mean.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::Error;

/// The backend's name in errors.
pub(super) const NAME: &str = "redis";

/// Why a call failed. Cheap to copy, so that everybody who was in the same batch can be told.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It was not reached, or said that it cannot now: it has done nothing.
    Unreached(String),
    /// The answer did not come: it may have been done.
    Lost(String),
    /// It takes nothing more in.
    Full(String),
    /// It, or the way to it, is not set up so that it could be used.
    Config(String),
    /// It does not let us in, or do that.
    Denied(String),
    /// It holds what cannot be read.
    Corrupt(String),
    /// The store has been closed.
    Closed,
    /// Anything else the server said; it has done nothing, or a part that a repeated call passes over.
    Other(String),
}

pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

/// What to do after the server said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// It does not know the script: send the whole text.
    SendText,
    /// It has done nothing and may do it in a moment.
    TryAgain,
    /// The same, but by another connection: this one leads to a server that was made a copy.
    Reconnect,
    /// The connection is gone, and with it perhaps an answer.
    Broken,
    /// Tell the caller.
    Tell,
}

impl Advice {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::SendText,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown,
            ) => Self::TryAgain,
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => Self::Reconnect,
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => Self::Broken,
            _ if error.code() == Some("BUSY") => Self::TryAgain,
            _ => Self::Tell,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let said = said(&error);
        match (error.kind(), error.code().unwrap_or_default()) {
            (ErrorKind::Io | ErrorKind::Parse, _) => Self::Lost(said),
            (_, "OOM" | "MISCONF") => Self::Full(said),
            (ErrorKind::InvalidClientConfig, _) => Self::Config(said),
            (ErrorKind::AuthenticationFailed, _) | (_, "NOPERM" | "NOAUTH" | "WRONGPASS") => {
                Self::Denied(said)
            }
            // What a script runs into comes as an error of the script that holds the error's own text.
            _ if said.contains("OOM ") || said.contains("MISCONF ") => Self::Full(said),
            _ if said.contains("NOPERM ") => Self::Denied(said),
            _ => Self::Other(said),
        }
    }
}

/// What the server said, without what this library adds.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (_, Some(detail)) => format!("{}: {detail}", error.category()),
        _ => error.to_string(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it has been closed"),
            Self::Unreached(reason)
            | Self::Lost(reason)
            | Self::Full(reason)
            | Self::Config(reason)
            | Self::Denied(reason)
            | Self::Corrupt(reason)
            | Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// What the caller is told: `action` is what was asked of the store at `place`.
    pub(super) fn into_error(self, place: &str, action: &'static str) -> Error {
        let source = |reason: String| format!("`{place}`: {reason}");
        match self {
            Self::Unreached(reason) => Error::not_applied(NAME, action, source(reason)),
            Self::Lost(reason) | Self::Other(reason) => {
                Error::unavailable(NAME, action, source(reason))
            }
            Self::Full(reason) => Error::Full { place: format!("`{place}`"), reason },
            Self::Corrupt(reason) => Error::Corrupt { place: format!("`{place}`"), reason },
            Self::Config(reason) | Self::Denied(reason) => {
                Error::Config(format!("`{place}` cannot be used: {reason}"))
            }
            Self::Closed => Error::Closed(NAME),
        }
    }
}
