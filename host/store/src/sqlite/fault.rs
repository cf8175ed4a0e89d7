//! What SQLite's errors mean.

use std::fmt;
use std::path::Path;

use crate::Error;

/// Why a statement failed. Cheap to copy, so that everybody who was in the same batch can be told.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Somebody else writes.
    Busy,
    /// The disk is full, or as good as.
    Full(String),
    /// The file is no database, or a damaged one.
    Corrupt(String),
    /// The file or its folder cannot be written or opened.
    Access(String),
    /// What became of the file while it was open.
    Moved(&'static str),
    /// Which file of its log is not what it was, and what became of that.
    Deprived(String, &'static str),
    /// The connection is gone.
    Closed,
    /// Anything else.
    Other(String),
}

pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(inner) = &error else {
            return match error {
                sqlx::Error::WorkerCrashed => Self::Closed,
                other => Self::Other(other.to_string()),
            };
        };
        // Primary result codes (sqlite.org/rescode.html); extended ones have more bits above.
        let code = inner.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
        let message = inner.message().to_owned();
        const IO_WRITE: i32 = 778;
        const IO_SHARED: i32 = 4874; // no room for what processes share about the log
        match (code & 0xff, code) {
            (5 | 6, _) => Self::Busy,
            (13, _) | (_, IO_WRITE | IO_SHARED) => Self::Full(message),
            (11 | 26, _) => Self::Corrupt(message),
            (3 | 8 | 14 | 23, _) => Self::Access(message),
            _ => Self::Other(format!("{message} (code {code})")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another process keeps writing to it"),
            Self::Moved(how) => write!(f, "it was {how} while it was open"),
            Self::Deprived(log, how) => write!(f, "its log `{log}` was {how} while it was open"),
            Self::Closed => f.write_str("it has been closed"),
            Self::Full(reason)
            | Self::Corrupt(reason)
            | Self::Access(reason)
            | Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// What the caller is told: `action` is what was asked of the file at `path`.
    pub(super) fn into_error(self, path: &Path, action: &'static str) -> Error {
        let place = path.display().to_string();
        match self {
            Self::Full(reason) => Error::Full { place, reason },
            Self::Corrupt(reason) => Error::Corrupt { place, reason },
            Self::Access(reason) => Error::Config(format!(
                "`{place}` cannot be used: {reason}; it and its folder must be writable by this user"
            )),
            Self::Moved(how) => Error::Config(format!(
                "`{place}` was {how} while it was open; put it back, or start this program again"
            )),
            Self::Deprived(log, how) => Error::Config(format!(
                "`{log}` was {how} while `{place}` was open, whose log it is; start this program again, and leave that file \
                 alone while one runs"
            )),
            Self::Closed => Error::Closed("sqlite"),
            Self::Busy => Error::unavailable(
                "sqlite",
                action,
                format!(
                    "another process keeps writing to `{place}`; find it with `fuser {place}`, or try again"
                ),
            ),
            Self::Other(reason) => {
                Error::unavailable("sqlite", action, format!("`{place}`: {reason}"))
            }
        }
    }
}
