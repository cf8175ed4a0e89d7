//! How a call ended, what it used, what it was refused, and what it wrote.

use std::fmt;
use std::time::Duration;

use omniq_model::Kind;
use omniq_model::wit::Type;

/// Everything there is to know about one finished call.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What the guest returned, or why there is nothing.
    pub result: Result<Output, Failure>,
    /// What the call used; also there when it failed.
    pub usage: Usage,
    /// Capabilities the guest used without having them, each once, in the order of their first use.
    pub denials: Vec<Denial>,
    /// What the guest wrote to stdout, whole.
    pub stdout: Vec<u8>,
    /// What the guest wrote to stderr, whole.
    pub stderr: Vec<u8>,
}

/// What a call returned.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// The value of a typed function: canonical CBOR of its result type, `null` where it has none. A function that
    /// returns `result<T, E>` gives the `T` here.
    Value(Vec<u8>),
    /// A command ended successfully; what it had to say is in [`Outcome::stdout`].
    Command,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong, for programs.
    pub kind: Kind,
    /// What went wrong, for people: one sentence without its full stop.
    pub message: String,
    /// The error case of the function's `result`, when [`Kind::ErrResult`]: its type, and canonical CBOR.
    pub error: Option<(Option<Type>, Vec<u8>)>,
    /// The guest's calls when it trapped, innermost first, at most 20.
    pub backtrace: Vec<Frame>,
    /// What may lie behind it, for whoever grants capabilities: one sentence without its full stop. Without it the
    /// failure of a guest that was granted too little can look like any other.
    pub hint: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), error: None, backtrace: Vec::new(), hint: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// One call of a guest's backtrace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function's name, demangled, its first 500 bytes if it is longer; `None` when the module carries no names.
    pub function: Option<String>,
    /// The module's name, if it has one; cut in the same way.
    pub module: Option<String>,
    /// Where in the module, in bytes.
    pub offset: Option<usize>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = self.function.as_deref().unwrap_or("<unnamed>");
        write!(f, "{function}")?;
        if let Some(module) = &self.module {
            write!(f, " in {module}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at {offset:#x}")?;
        }
        Ok(())
    }
}

/// What one call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Units of fuel. They are comparable only between runs of the same engine version.
    pub fuel: u64,
    /// The most bytes of linear memory held at once.
    pub peak_memory: u64,
    /// Time from the start of the attempt to its end.
    pub wall: Duration,
    /// Processor time.
    pub cpu: Duration,
    /// Calls of host functions.
    pub host_calls: u64,
}

/// A capability the guest used without having it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// What it tried to use, such as `http`.
    pub capability: &'static str,
    /// What exactly, such as `GET https://example.com/`.
    pub target: String,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.capability, self.target)?;
        if self.count > 1 { write!(f, " ({} times)", self.count) } else { Ok(()) }
    }
}
