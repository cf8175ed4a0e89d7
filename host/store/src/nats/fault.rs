//! What goes wrong with NATS, in a form that many callers can be told.

use std::fmt;

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};

use crate::Error;
pub(super) use crate::error::chain;

/// The backend's name.
pub(super) const NAME: &str = "nats";

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// Why something could not be done.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// No answer came: the outcome is unknown.
    Unknown(String),
    /// The server has no room left.
    Full(String),
    /// What is stored is damaged.
    Corrupt(String),
    /// The server, or its settings, cannot be used.
    Config(String),
    /// Another version has written it.
    Schema { found: u32, newer: bool },
    /// The store was closed.
    Closed,
}

impl Fault {
    /// Some answer that did not come, or that says no more than that it failed.
    pub(super) fn unknown(error: impl fmt::Display) -> Self {
        Self::Unknown(error.to_string())
    }

    pub(super) fn into_error(self, place: &str, action: &'static str) -> Error {
        match self {
            Self::Unknown(reason) => Error::unavailable(NAME, action, reason),
            Self::Full(reason) => Error::Full { place: place.to_owned(), reason },
            Self::Corrupt(reason) => Error::Corrupt { place: place.to_owned(), reason },
            Self::Config(reason) => Error::Config(format!("{place} cannot be used: {reason}")),
            Self::Schema { found, newer } => Error::Schema {
                place: place.to_owned(),
                found,
                oldest: super::connect::SCHEMA,
                newest: super::connect::SCHEMA,
                next: if newer {
                    "update this omniq"
                } else {
                    "work its tasks off with the version that wrote it"
                },
            },
            Self::Closed => Error::Closed(NAME),
        }
    }
}

/// Codes of JetStream that mean that there is no room: too little storage, the account's or the stream's limit reached.
const FULL: [u64; 6] = [10002, 10023, 10028, 10047, 10077, 10122];

/// The code of an answer of JetStream, if there was an answer.
fn code(error: &(dyn std::error::Error + 'static)) -> Option<u64> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<jetstream::Error>() {
            return Some(error.error_code().0);
        }
        next = error.source();
    }
    None
}

/// What an answer of JetStream that is an error means.
pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Fault {
    match code(error) {
        Some(code) if FULL.contains(&code) => Fault::Full(chain(error)),
        _ => Fault::Unknown(chain(error)),
    }
}

/// What an error of a publish means, and whether the same publish may be tried again.
pub(super) fn of_publish(error: &PublishError) -> (Fault, bool) {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => (
            Fault::Config(format!("the server's `max_payload` is too small: {}", chain(error))),
            false,
        ),
        _ => {
            let fault = of(error);
            let again = !matches!(fault, Fault::Full(_));
            (fault, again)
        }
    }
}
