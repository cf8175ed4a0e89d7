//! What PostgreSQL's errors mean.

use std::fmt;

use crate::Error;

/// Why a call failed. Cheap to copy, so that everybody who was in the same batch can be told.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It collided with another transaction and was rolled back: once more.
    Again(String),
    /// No partition for the day: it has to be made.
    NoDay,
    /// No partitions for some of these days of events, counted from 1970.
    NoDays(std::collections::BTreeSet<i64>),
    /// No connection could be had, so nothing was asked.
    NotReached(String),
    /// The connection broke, or no answer came in time: nobody knows what became of it.
    Lost(String),
    /// The server's disk is full.
    Full(String),
    /// What is stored is not what was written.
    Corrupt(String),
    /// The server or the database is not set up for this.
    Config(String),
    /// The store has been closed.
    Closed,
    /// Anything else that the server said; it did nothing.
    Other(String),
}

pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or_default().into_owned();
                of_code(&code, inner.message())
            }
            sqlx::Error::PoolTimedOut => {
                Self::NotReached("no connection was free or could be made in time".into())
            }
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::RowNotFound => Self::Other("an answer had no row".into()),
            error @ (sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }) => Self::Corrupt(error.to_string()),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// PostgreSQL's codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_code(code: &str, message: &str) -> Fault {
    let told = || format!("{message} (code {code})");
    match (code, code.get(..2).unwrap_or_default()) {
        // Serialization, deadlock, lock timeout, and our own in `finish`.
        ("40001" | "40P01" | "55P03" | "OQ001", _) => Fault::Again(told()),
        ("23514", _) if message.contains("partition") => Fault::NoDay,
        ("57014", _) => Fault::Other(told()), // cancelled: by `statement_timeout`, or by hand
        ("53100", _) => Fault::Full(message.to_owned()),
        (_, "XX") => Fault::Corrupt(told()),
        // Read-only: a standby. Rights, names, passwords, and what is not there.
        ("25006", _) => {
            Fault::Config(format!("{message}: the server is a standby or only lets itself be read"))
        }
        (_, "28" | "3D" | "3F" | "42") => Fault::Config(told() + next(message)),
        // Too many connections, out of memory; shutting down or starting up.
        (_, "53") => Fault::NotReached(told()),
        (_, "57" | "08" | "58") => Fault::Lost(told()),
        _ => Fault::Other(told()),
    }
}

/// What to do where the server lets nobody in who comes like this.
fn next(message: &str) -> &'static str {
    if message.contains("no encryption") || message.contains("SSL off") {
        "; encrypt the connection by `sslmode=verify-full` in the URL, if the server takes no other"
    } else if message.contains("client certificate") {
        "; name files with a certificate for this user and its key by `sslcert=FILE&sslkey=FILE`"
    } else {
        ""
    }
}

impl Fault {
    /// When a connection was to be had.
    pub(super) fn on_connect(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Lost(reason) | Self::Other(reason) | Self::Again(reason) => {
                Self::NotReached(reason)
            }
            other => other,
        }
    }

    /// Whether the connection it came from is of no more use.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// The same of a call of which a part may have been carried out before: then nobody may say that nothing was.
    pub(super) fn after_a_part(self) -> Self {
        match self {
            Self::NotReached(_) | Self::Full(_) | Self::Config(_) | Self::Closed => {
                Self::Lost(format!("a part of it was done, and then {self}"))
            }
            other => other,
        }
    }

    /// Whether the data of one call may be to blame, so that others of the same batch may fare better without it.
    pub(super) fn is_of_data(&self) -> bool {
        matches!(self, Self::Other(_) | Self::Corrupt(_))
    }

    /// What the caller is told: `action` is what was asked of the database at `place`.
    pub(super) fn into_error(self, place: &str, action: &'static str) -> Error {
        match self {
            Self::Full(reason) => Error::Full { place: place.into(), reason },
            Self::Corrupt(reason) => Error::Corrupt { place: place.into(), reason },
            Self::Config(reason) => {
                Error::Config(format!("{place} cannot be used to {action}: {reason}"))
            }
            Self::Closed => Error::Closed("postgres"),
            Self::NotReached(reason) => {
                Error::not_applied("postgres", action, format!("{place}: {reason}"))
            }
            Self::NoDay | Self::NoDays(_) => Error::unavailable(
                "postgres",
                action,
                format!("{place}: a day's partition could not be made"),
            ),
            Self::Again(reason) => Error::unavailable(
                "postgres",
                action,
                format!("{place}: it collided with other transactions too often: {reason}"),
            ),
            Self::Lost(reason) | Self::Other(reason) => {
                Error::unavailable("postgres", action, format!("{place}: {reason}"))
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDay | Self::NoDays(_) => f.write_str("the day has no partition"),
            Self::Closed => f.write_str("it has been closed"),
            Self::Again(reason)
            | Self::NotReached(reason)
            | Self::Lost(reason)
            | Self::Full(reason)
            | Self::Corrupt(reason)
            | Self::Config(reason)
            | Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn codes_mean_what_the_caller_has_to_do() {
        for (code, kind) in [
            ("57P01", ErrorKind::Unavailable), // shut down by an administrator
            ("08006", ErrorKind::Unavailable),
            ("53300", ErrorKind::NotApplied), // too many connections
            ("53100", ErrorKind::Full),
            ("28P01", ErrorKind::Config),
            ("42501", ErrorKind::Config),
            ("42P01", ErrorKind::Config),
            ("25006", ErrorKind::Config),
            ("XX001", ErrorKind::Corrupt),
            ("22003", ErrorKind::Unavailable),
        ] {
            let error = of_code(code, "it failed").into_error("`db`", "claim tasks");
            assert_eq!(error.kind(), kind, "{code}: {error}");
        }
        for code in ["40001", "40P01", "55P03", "OQ001"] {
            assert!(matches!(of_code(code, "again"), Fault::Again(_)), "{code}");
        }
        let full = || of_code("53100", "no space left");
        assert_eq!(full().into_error("`db`", "finish tasks").kind(), ErrorKind::Full);
        for fault in [full(), of_code("53300", "too many"), Fault::Closed] {
            let error = fault.after_a_part().into_error("`db`", "finish tasks");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "a part may be there: {error}");
        }
        let missing = of_code("23514", "no partition of relation \"done\" found for row");
        assert!(matches!(missing, Fault::NoDay));
        assert!(matches!(of_code("23514", "a check failed"), Fault::Other(_)));
    }
}
