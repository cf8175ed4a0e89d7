//! Why there is no result: for people on stderr, for programs as an exit code and, if they ask, as JSON on stdout.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use omniq_model::Kind;
use omniq_model::wit::Type;
use omniq_sandbox::{Denial, Failure, Frame, Outcome, Usage, inspect, value};
pub use omniq_store::chain;
use serde::Serialize;
use serde_json::value::RawValue;

use super::console::{self, tame};
use super::ended::{FailedTask, TaskBody};
use super::value::{Format, text_of};
use super::{hint, report};

/// The exit code of a run that Ctrl-C ended, as shells have it: 128 and the signal's number.
pub const INTERRUPTED: u8 = 130;

/// A failure with all that is known of it.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    message: String,
    hint: Option<String>,
    /// What there is to tell of a call that has begun.
    call: Option<Box<FailedCall>>,
    /// What there is to tell of a task that ended without a result.
    task: Option<Box<FailedTask>>,
    is_interrupt: bool,
    /// Whether its message is ours alone, and has lines of its own.
    has_lines: bool,
    /// Whether the same may work later, without anybody changing anything.
    is_passing: bool,
}

#[derive(Debug)]
struct FailedCall {
    /// The error value of the guest, with its type.
    error: Option<(Option<Type>, Vec<u8>)>,
    backtrace: Vec<Frame>,
    denials: Vec<Denial>,
    usage: Usage,
}

impl Problem {
    /// A failure with a message and nothing else.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            call: None,
            task: None,
            is_interrupt: false,
            has_lines: false,
            is_passing: false,
        }
    }

    /// The same with the next step to take.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same where the message lists several things, each on a line of its own.
    pub fn in_lines(mut self) -> Self {
        self.has_lines = true;
        self
    }

    /// The same where a store did not answer, and may do so later.
    pub fn passing(mut self, is_passing: bool) -> Self {
        self.is_passing = is_passing;
        self
    }

    /// Whether the same may work later, without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// How a call failed.
    pub fn of_call(failure: Failure, denials: Vec<Denial>, usage: Usage) -> Self {
        let hint = hint::after_call(&failure, &denials);
        let Failure { kind, message, error, backtrace, .. } = failure;
        let call = FailedCall { error, backtrace, denials, usage };
        Self { hint, call: Some(Box::new(call)), ..Self::new(kind, message) }
    }

    /// The same with what is known of the task.
    pub fn of_task(mut self, task: FailedTask) -> Self {
        self.task = Some(Box::new(task));
        self
    }

    /// The same with the type of the error value of its task.
    pub fn typed(mut self, ty: Option<Type>) -> Self {
        self.task = self.task.map(|task| Box::new(task.typed(ty)));
        self
    }

    /// What went wrong, as a program sees it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What went wrong, for a person, on one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Marks a cancelled call as ended by Ctrl-C.
    pub fn interrupted(mut self) -> Self {
        self.is_interrupt = self.kind == Kind::Cancelled;
        self
    }

    /// Shows the failure; in JSON also on stdout.
    pub fn show(&self, format: Format) {
        console::error(&self.text());
        if format == Format::Json {
            let json = serde_json::to_string(&Document { error: self.json() });
            // The exit code says all there is to say if stdout is gone.
            if let Ok(json) = json {
                let _ = writeln!(io::stdout().lock(), "{json}");
            }
        }
    }

    /// The exit code of its kind.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_interrupt { INTERRUPTED } else { self.kind.exit_code() })
    }

    fn text(&self) -> String {
        // A guest may have a say in any message, and in any hint, but not in those that list what is wrong with settings.
        let message = match self.has_lines {
            true => self.message.lines().map(tame).collect::<Vec<_>>().join("\n"),
            false => tame(&self.message),
        };
        let mut text = format!("error: {message}");
        let call = self.call.as_deref();
        if let Some((Some(ty), bytes)) = call.and_then(|call| call.error.as_ref()) {
            text += ": ";
            text += &tame(&text_of(ty, bytes));
        }
        let task = self.task.as_deref();
        if let Some(value) = task.and_then(FailedTask::value_text) {
            text += ": ";
            text += &tame(&value);
        }
        text.push('\n');
        if let Some(call) = call.filter(|_| !matches!(self.kind, Kind::Exit | Kind::Cancelled)) {
            text += &backtrace(&call.backtrace);
        }
        text += &task.map(FailedTask::backtrace_text).unwrap_or_default();
        if let Some(hint) = &self.hint {
            text += &format!("hint: {}\n", tame(hint));
        }
        text
    }

    fn json(&self) -> Body<'_> {
        Body {
            kind: self.kind,
            message: &self.message,
            hint: self.hint.as_deref(),
            call: self.call.as_deref().map(CallBody::from),
            task: self.task.as_deref().map(FailedTask::json),
        }
    }
}

fn null() -> Box<RawValue> {
    RawValue::from_string(String::from("null")).expect("`null` is JSON")
}

/// The calls of a guest, innermost first, one line each; calls of the same function in a row share one.
fn backtrace(frames: &[Frame]) -> String {
    let same = |a: &Frame, b: &Frame| a.function == b.function && a.module == b.module;
    let mut text = String::new();
    for calls in telling(frames).chunk_by(same) {
        text += &format!("    at {}", tame(&calls[0].to_string()));
        text += &if calls.len() > 1 {
            format!(" ({} calls)\n", calls.len())
        } else {
            String::from("\n")
        };
    }
    text
}

/// The frames that tell where the guest failed: without the innermost ones, which every panic has.
fn telling(frames: &[Frame]) -> &[Frame] {
    const NOISE: &[&str] = &[
        "abort",
        "__rust",
        "rust_begin_unwind",
        "rust_panic",
        "_rust_",
        "std::panicking::",
        "core::panicking::",
        "std::sys::",
        "std::process::abort",
        "std::alloc::rust_oom",
        "alloc::alloc::handle_alloc_error",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
        "core::result::unwrap_failed",
        "core::slice::index::",
        "core::str::slice_error_fail",
    ];
    let is_noise = |frame: &Frame| {
        let name = frame.function.as_deref().unwrap_or_default();
        NOISE.iter().any(|noise| name.strip_prefix('<').unwrap_or(name).starts_with(noise))
    };
    let first = frames.iter().position(|frame| !is_noise(frame)).unwrap_or(0);
    &frames[first..]
}

#[derive(Serialize)]
struct Document<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    kind: Kind,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(flatten)]
    call: Option<CallBody>,
    #[serde(flatten)]
    task: Option<TaskBody<'a>>,
}

#[derive(Serialize)]
struct CallBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<FrameBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    denials: Vec<report::DenialBody>,
    usage: report::UsageBody,
}

impl From<&FailedCall> for CallBody {
    fn from(call: &FailedCall) -> Self {
        let value = call.error.as_ref().map(|(ty, bytes)| {
            let json = ty.as_ref().and_then(|ty| value::json::write(ty, bytes).ok());
            json.and_then(|json| RawValue::from_string(json).ok()).unwrap_or_else(null)
        });
        let frame = |frame: &Frame| FrameBody {
            function: frame.function.clone(),
            module: frame.module.clone(),
            offset: frame.offset,
        };
        Self {
            value,
            backtrace: call.backtrace.iter().map(frame).collect(),
            denials: call.denials.iter().map(report::DenialBody::from).collect(),
            usage: report::UsageBody::from(&call.usage),
        }
    }
}

#[derive(Serialize)]
struct FrameBody {
    function: Option<String>,
    module: Option<String>,
    offset: Option<usize>,
}

/// Something about the machine failed: a file, a stream.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Kind::Host, format!("{error:#}"))
    }
}

impl From<omniq_sandbox::Error> for Problem {
    fn from(error: omniq_sandbox::Error) -> Self {
        match error {
            omniq_sandbox::Error::Inspect(error) => error.into(),
            error => Self::new(error.kind(), chain(&error)),
        }
    }
}

impl From<inspect::Error> for Problem {
    fn from(error: inspect::Error) -> Self {
        let problem = Self::new(error.kind(), error.to_string());
        match error {
            inspect::Error::TooLarge { .. } => problem.hint("raise the limit with `--max-module`"),
            inspect::Error::Feature { in_full: true, .. } => {
                problem.hint("run it with `--profile full`")
            }
            _ => problem,
        }
    }
}

/// Writes data to stdout. A reader that has seen enough and is gone is no failure.
///
/// # Errors
/// Everything else that keeps the data from being written whole.
pub fn write_stdout(bytes: &[u8]) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("could not write to stdout")?),
    }
}

/// What remains of an outcome that is a failure.
pub fn split(outcome: Outcome) -> Result<omniq_sandbox::Output, Problem> {
    outcome.result.map_err(|failure| Problem::of_call(failure, outcome.denials, outcome.usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_writes_no_lines_of_ours() {
        let problem =
            Problem::new(Kind::ErrResult, "a\u{1b}[2J\nhint: b").hint("c\u{1b}\nerror: d");
        assert_eq!(problem.text(), "error: a\u{fffd}[2J hint: b\nhint: c\u{fffd} error: d\n");
        assert_eq!(problem.json().message, "a\u{1b}[2J\nhint: b", "programs get it as it is");
        let listed = Problem::new(Kind::Usage, "two are wrong:\n  a\u{1b}\n  b").in_lines();
        assert_eq!(listed.text(), "error: two are wrong:\n  a\u{fffd}\n  b\n");
    }

    #[test]
    fn a_backtrace_begins_where_the_guest_failed() {
        #[track_caller]
        fn check(functions: &[&str], expected: &str) {
            let frame = |name: &&str| Frame {
                function: (!name.is_empty()).then(|| (*name).to_owned()),
                module: None,
                offset: Some(16),
            };
            let frames: Vec<_> = functions.iter().map(frame).collect();
            assert_eq!(backtrace(&frames), expected);
        }
        check(
            &[
                "rust_panic",
                "__rustc::rust_begin_unwind",
                "core::panicking::panic_fmt",
                "jobs::resize",
                "run",
            ],
            "    at jobs::resize at 0x10\n    at run at 0x10\n",
        );
        check(
            &["<std::sys::Thing as T>::x", "f", "f", "f", "g"],
            "    at f at 0x10 (3 calls)\n    at g at 0x10\n",
        );
        check(&["abort"], "    at abort at 0x10\n");
        check(&["", ""], "    at <unnamed> at 0x10 (2 calls)\n");
        check(&["a\u{1b}b"], "    at a\u{fffd}b at 0x10\n");
        check(&[], "");
    }
}
