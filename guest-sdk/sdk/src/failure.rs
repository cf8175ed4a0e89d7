//! Why a task failed and what is to happen next; why the host refused a request.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::Payload;
use crate::bindings::omniq::task::types as wit;
use crate::contract::{Contract, from_wit, into_wit};

/// Why a task failed, and what is to happen next.
///
/// As the error of a task's result it is the record `failure` of `omniq:task/types`, which the host understands. Every
/// error converts into one, so `?` works; what is tried again then follows the policy of the task.
///
/// ```
/// # use omniq_guest as omniq;
/// use std::time::Duration;
/// use omniq::Failure;
///
/// fn fetch(status: u16) -> Result<(), Failure> {
///     match status {
///         200 => Ok(()),
///         404 => Err(Failure::permanent("the picture is gone").code("not-found")),
///         429 => Err(Failure::new("asked to slow down").retry_after(Duration::from_secs(30))),
///         _ => Err(Failure::new(format!("the server answered {status}"))),
///     }
/// }
/// # assert!(fetch(200).is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A short word for programs, such as `not-found`; `failed` unless set.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What is to happen next.
    pub retry: Retry,
    /// More, for whoever looks into it.
    pub details: Option<Payload>,
}

/// Whether and when a failed attempt is followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Retry {
    /// As the policy of the task says.
    #[default]
    ByPolicy,
    /// After this delay, if the policy has attempts left.
    After(Duration),
    /// Never: another attempt would fail the same way.
    Never,
    /// Not yet, and it does not count: the task runs again after this delay.
    Snooze(Duration),
    /// A directive of a later version; a host that does not know it treats it like [`Retry::ByPolicy`].
    Other(String),
}

impl Failure {
    /// A failure after which the policy of the task decides.
    pub fn new(message: impl Into<String>) -> Self {
        Failure {
            code: "failed".to_owned(),
            message: message.into(),
            retry: Retry::ByPolicy,
            details: None,
        }
    }

    /// A failure that another attempt would meet again: the task is not repeated.
    pub fn permanent(message: impl Into<String>) -> Self {
        Failure { retry: Retry::Never, ..Failure::new(message) }
    }

    /// No failure at all: it is too early. The task runs again after `delay`, and this attempt does not count.
    pub fn snooze(delay: Duration) -> Self {
        Failure::new("not yet").code("snoozed").retry(Retry::Snooze(delay))
    }

    /// Sets the word for programs.
    #[must_use]
    pub fn code(self, code: impl Into<String>) -> Self {
        Failure { code: code.into(), ..self }
    }

    /// Asks for the next attempt after `delay`, kept in whole milliseconds, if the policy has attempts left.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        self.retry(Retry::After(delay))
    }

    /// Sets what is to happen next.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Failure { retry, ..self }
    }

    /// Adds more for whoever looks into it.
    #[must_use]
    pub fn details(self, details: Payload) -> Self {
        Failure { details: Some(details), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// The message is the error's, followed by those of its causes.
///
/// This is why `Failure` is no [`Error`] itself: it would convert into itself twice.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Failure::new(message)
    }
}

/// Why the host refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denial {
    /// The task was not granted what the text names.
    NotGranted(String),
    /// A limit, named by the text, is reached.
    OverQuota(String),
    /// An argument makes no sense; the text says which and why.
    BadArgument(String),
    /// It cannot be done now; the same request may succeed later.
    Unavailable(String),
    /// A reason of a later version.
    Other(String),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            Denial::NotGranted(text) => ("not granted", text),
            Denial::OverQuota(text) => ("over quota", text),
            Denial::BadArgument(text) => ("bad argument", text),
            Denial::Unavailable(text) => ("unavailable", text),
            Denial::Other(text) => ("refused", text),
        };
        write!(f, "{what}: {text}")
    }
}

impl Error for Denial {}

impl From<wit::Denial> for Denial {
    fn from(denial: wit::Denial) -> Self {
        match denial {
            wit::Denial::NotGranted(text) => Denial::NotGranted(text),
            wit::Denial::OverQuota(text) => Denial::OverQuota(text),
            wit::Denial::BadArgument(text) => Denial::BadArgument(text),
            wit::Denial::Unavailable(text) => Denial::Unavailable(text),
            wit::Denial::Other(text) => Denial::Other(text),
        }
    }
}

impl Contract for Failure {
    type Wit = wit::Failure;

    fn from_wit(failure: wit::Failure) -> Self {
        Failure {
            code: failure.code,
            message: failure.message,
            retry: match failure.retry {
                wit::Retry::ByPolicy => Retry::ByPolicy,
                wit::Retry::After(delay) => Retry::After(Duration::from_millis(delay)),
                wit::Retry::Never => Retry::Never,
                wit::Retry::Snooze(delay) => Retry::Snooze(Duration::from_millis(delay)),
                wit::Retry::Other(directive) => Retry::Other(directive),
            },
            details: failure.details.map(from_wit),
        }
    }

    fn into_wit(self) -> wit::Failure {
        wit::Failure {
            code: self.code,
            message: self.message,
            retry: match self.retry {
                Retry::ByPolicy => wit::Retry::ByPolicy,
                Retry::After(delay) => wit::Retry::After(milliseconds(delay)),
                Retry::Never => wit::Retry::Never,
                Retry::Snooze(delay) => wit::Retry::Snooze(milliseconds(delay)),
                Retry::Other(directive) => wit::Retry::Other(directive),
            },
            details: self.details.map(into_wit),
        }
    }
}

/// More milliseconds than fit are as good as for ever.
fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_the_way_to_the_host() {
        let minute = Duration::from_secs(60);
        let retries = [
            Retry::ByPolicy,
            Retry::After(minute),
            Retry::Never,
            Retry::Snooze(minute),
            Retry::Other("later".to_owned()),
        ];
        for retry in retries {
            let failure = Failure::new("no").code("c").retry(retry).details(Payload::text("more"));
            assert_eq!(Failure::from_wit(failure.clone().into_wit()), failure);
        }
    }

    #[test]
    fn an_error_brings_its_causes() {
        let invalid = String::from_utf8(vec![0xff]).expect_err("not UTF-8");
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, invalid);
        let failure = Failure::from(error);
        assert!(failure.message.contains("invalid utf-8"), "{failure}");
        assert_eq!((failure.code.as_str(), failure.retry), ("failed", Retry::ByPolicy));
    }

    #[test]
    fn a_delay_beyond_all_bounds_is_kept_as_the_longest() {
        let failure = Failure::snooze(Duration::MAX).into_wit();
        assert!(matches!(failure.retry, wit::Retry::Snooze(u64::MAX)));
    }
}
