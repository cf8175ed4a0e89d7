//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

use super::table::Row;

/// Where a value came from, in the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A flag of the command line, such as `--log-level`.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// A line of a file, counted from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line of the value.
        line: usize,
    },
    /// Derived from another setting, whose key this is, or from a variable that is not ours, such as `HOME`.
    Follows(&'static str),
    /// Nobody set it.
    Default,
}

impl Origin {
    /// Whether somebody set it.
    pub fn is_set(&self) -> bool {
        matches!(self, Self::Flag(_) | Self::Variable(_) | Self::File { .. })
    }

    /// The setting as its author knows it: the name of the variable or flag, or the key and the line it stands on.
    pub(crate) fn name(&self, row: &Row) -> String {
        match self {
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Variable(name) => format!("`{name}`"),
            Self::File { .. } => format!("`{}` in {self}", row.key),
            Self::Follows(_) | Self::Default => format!("`{}`", row.key),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Follows(key) => write!(f, "follows {key}"),
            Self::Default => f.write_str("default"),
        }
    }
}
