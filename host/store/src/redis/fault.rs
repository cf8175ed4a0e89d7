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
            // Redis before 7 tells what a script runs into as an error of the script that holds the error's own text.
            _ if said(error).contains("-READONLY ") => Self::Reconnect,
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
    /// What it is for a call of which a part was carried out, or may have been, if `part` says so: that it has done nothing
    /// cannot be said then. The same call again passes over what was done.
    pub(super) fn after(self, part: bool) -> Self {
        match self {
            Self::Unreached(reason)
            | Self::Full(reason)
            | Self::Config(reason)
            | Self::Denied(reason)
                if part =>
            {
                Self::Lost(format!("{reason}; a part had been done by then"))
            }
            other => other,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str, detail: &str) -> RedisError {
        let answer = format!("-{code} {detail}\r\n");
        let value = redis::parse_redis_value(answer.as_bytes()).expect("it is an answer");
        value.extract_error().expect_err("it is an error")
    }

    /// What a server says that was made a copy: to a command, and to a script on Redis 6.2.
    #[test]
    fn a_server_that_became_a_copy_is_left_for_another() {
        let said = "You can't write against a read only replica.";
        assert_eq!(Advice::of(&server("READONLY", said)), Advice::Reconnect);
        let said = format!(
            "Error running script (call to f_8d): @user_script:12: @user_script: 12: -READONLY {said}"
        );
        assert_eq!(Advice::of(&server("ERR", &said)), Advice::Reconnect);
        assert_eq!(Advice::of(&server("ERR", "Error running script: what else")), Advice::Tell);
    }

    #[test]
    fn of_what_was_done_in_part_it_is_unknown_how_much_was() {
        let all: [fn(String) -> Fault; 4] =
            [Fault::Unreached, Fault::Full, Fault::Config, Fault::Denied];
        for fault in all {
            let kind = |fault: Fault| fault.into_error("redis://here", "do it").kind();
            assert!(kind(fault("no".into()).after(true)).is_unknown());
            assert_eq!(kind(fault("no".into()).after(false)), kind(fault("no".into())));
        }
    }
}
