//! Why a configuration cannot be used: all that is wrong with it at once.

use std::fmt;

/// One thing that is wrong; the text names the setting, where its value came from and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Problem {
    /// The key of the setting; `None` where it is not about a known one.
    pub key: Option<&'static str>,
    /// For a person. Passwords are hidden.
    pub text: String,
}

impl Problem {
    pub(crate) fn new(key: &'static str, text: impl Into<String>) -> Self {
        Self { key: Some(key), text: text.into() }
    }

    /// One that is about no known setting.
    pub(crate) fn general(text: impl Into<String>) -> Self {
        Self { key: None, text: text.into() }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// All that is wrong with it; never empty.
    pub problems: Vec<Problem>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => problem.fmt(f),
            problems => {
                write!(f, "{} settings cannot be used", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl Error {
    /// `Ok` where nothing is wrong.
    pub(crate) fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }
}
