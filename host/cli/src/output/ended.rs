//! Tasks that ended without a result, as failures of the command that waited for them.

use omniq::NoResult;
use omniq_model::wit::Type;
use omniq_model::{Format, TaskUsage};
use omniq_sandbox::value;
use serde::Serialize;
use serde_json::value::RawValue;

use super::console::tame;
use super::problem::Problem;

/// What there is to tell of a task that ended without a result.
#[derive(Debug)]
pub struct FailedTask {
    ended: NoResult,
    /// The type of the value that its function returned as its error, if it is known.
    error_type: Option<Type>,
}

/// The failure of a command that wanted a result.
pub fn problem(ended: NoResult) -> Problem {
    let kind = ended.kind();
    let message = ended.to_string();
    let mut problem = Problem::new(kind, message);
    if !ended.error.hint.is_empty() {
        problem = problem.hint(ended.error.hint.clone());
    } else {
        problem = problem.hint(format!("`omniq task show {}` tells what happened to it", ended.id));
    }
    problem.of_task(FailedTask { ended, error_type: None })
}

impl FailedTask {
    /// With the type of the error value.
    pub fn typed(mut self, ty: Option<Type>) -> Self {
        self.error_type = ty;
        self
    }

    /// What stands behind the message: the error value.
    pub fn value_text(&self) -> Option<String> {
        let payload = self.ended.error.value.as_ref()?;
        let ty = self.error_type.as_ref()?;
        value::wave::write(ty, &payload.bytes).ok()
    }

    /// The guest's calls, innermost first, one line each.
    pub fn backtrace_text(&self) -> String {
        let lines = self.ended.error.backtrace.iter();
        lines.map(|frame| format!("    at {}\n", tame(frame))).collect()
    }

    /// For programs.
    pub fn json(&self) -> TaskBody<'_> {
        let value = self.ended.error.value.as_ref().filter(|value| value.format == Format::Cbor);
        let value = value.and_then(|value| {
            let json = value::json::write(self.error_type.as_ref()?, &value.bytes).ok()?;
            RawValue::from_string(json).ok()
        });
        TaskBody {
            task: self.ended.id.to_string(),
            state: self.ended.state.name(),
            value,
            backtrace: &self.ended.error.backtrace,
            denials: &self.ended.error.denials,
            usage: UsageBody::from(&self.ended.usage),
            stderr: &self.ended.stderr,
        }
    }
}

/// [`FailedTask`] for programs.
#[derive(Debug, Serialize)]
pub struct TaskBody<'a> {
    task: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    backtrace: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    denials: &'a [String],
    usage: UsageBody,
    #[serde(skip_serializing_if = "str::is_empty")]
    stderr: &'a str,
}

/// [`TaskUsage`] for programs, as `omniq run` writes it.
#[derive(Debug, Serialize)]
pub struct UsageBody {
    fuel: u64,
    peak_memory_bytes: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
    host_calls: u64,
}

impl From<&TaskUsage> for UsageBody {
    fn from(usage: &TaskUsage) -> Self {
        let seconds = |micros: u64| std::time::Duration::from_micros(micros).as_secs_f64();
        Self {
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory,
            wall_seconds: seconds(usage.wall_micros),
            cpu_seconds: seconds(usage.cpu_micros),
            host_calls: usage.host_calls,
        }
    }
}
