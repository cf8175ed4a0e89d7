//! Tasks as they are shown: a line each for people, an object each for programs, one in full.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use omniq::{Info, TaskId, Timestamp};
use omniq_model::wit::Type;
use omniq_model::{CommandInput, Format, Module, Payload, Task, TaskError, Value, record};
use omniq_sandbox::value::{self, args};
use serde::Serialize;
use serde_json::value::RawValue;

use super::console::tame;
use super::ended::UsageBody;
use super::report;
use super::table::table;
use crate::option::quantity::Span;
use crate::queue::short;

/// A table of tasks; `now` is what ages are counted from.
pub fn lines(items: &[Info], now: Timestamp) -> String {
    let row = |info: &Info| {
        let head = &info.head;
        let error = head.error.as_ref().filter(|_| {
            !head.state.is_terminal()
                || head.result.as_ref().is_some_and(|result| result.error.is_some())
        });
        [
            short(info.id),
            head.state.name().to_owned(),
            what(info),
            info.lane.queue.to_string(),
            tries(info),
            age(now, head.created),
            error.map(|error| cut(&error.message)).unwrap_or_default(),
        ]
    };
    table(["ID", "STATE", "TASK", "QUEUE", "TRY", "AGE", "ERROR"], items.iter().map(row))
}

/// Whole text of one task, for people.
pub fn full(info: &Info, module: Option<&Module>, now: Timestamp) -> String {
    let head = &info.head;
    let mut rows = vec![
        ("id", info.id.to_string()),
        ("state", state_text(info, now)),
        ("task", what(info)),
        ("tenant", info.lane.tenant.to_string()),
        ("queue", info.lane.queue.to_string()),
    ];
    if let Ok(task) = &info.task {
        rows.push(("args", args_text(task, module)));
        rows.push(("priority", task.priority.get().to_string()));
        for (key, value) in &task.labels {
            rows.push(("label", format!("{key}={value}")));
        }
        for id in &task.after {
            rows.push(("after", id.to_string()));
        }
        if let Some(unique) = &task.unique {
            rows.push(("unique", format!("{} ({})", unique.key, unique.scope)));
        }
    }
    rows.push(("try", tries(info)));
    rows.push(("created", moment(head.created)));
    let times = [("runs at", head.run_at), ("started", head.started), ("finished", head.finished)];
    rows.extend(times.into_iter().filter_map(|(name, at)| Some((name, moment(at?)))));
    let result = head.result.as_ref();
    if let Some(text) =
        result.and_then(|result| result.value.as_ref()).map(|value| value_text(value, info, module))
    {
        rows.push(("result", text));
    }
    let error = result.and_then(|result| result.error.as_ref()).or(head.error.as_ref());
    // A success keeps the error of the attempt before it, which is no news any more.
    let error = error.filter(|_| result.is_none_or(|result| result.value.is_none()));
    if let Some(error) = error {
        rows.extend(error_rows(error, info, module));
    }
    if let Some(usage) = result.map(|result| &result.usage).filter(|usage| usage.wall_micros > 0) {
        let wall = report::span(Duration::from_micros(usage.wall_micros));
        let memory = report::bytes(usage.peak_memory);
        rows.push(("used", format!("{} fuel, {memory} of memory, {wall}", usage.fuel)));
    }
    let mut text = String::new();
    for (name, value) in rows {
        text += format!("{name:<10} {}", tame(&value)).trim_end();
        text.push('\n');
    }
    if let Some(stderr) = result.map(|result| &result.stderr).filter(|stderr| !stderr.is_empty()) {
        text += "stderr\n";
        for line in stderr.lines() {
            text += &format!("  {}\n", tame(line));
        }
    }
    text
}

fn error_rows(
    error: &TaskError,
    info: &Info,
    module: Option<&Module>,
) -> Vec<(&'static str, String)> {
    let mut rows = vec![("error", format!("{}: {}", error.kind, error.message))];
    if let Some(value) = &error.value {
        let ty = result_type(info, module).and_then(|ty| match ty {
            Type::Result(sides) => sides.err.clone(),
            _ => None,
        });
        rows.push(("value", payload_text(value, ty.as_ref())));
    }
    if !error.hint.is_empty() {
        rows.push(("hint", error.hint.clone()));
    }
    rows.extend(error.denials.iter().map(|denial| ("denied", denial.clone())));
    rows.extend(error.backtrace.iter().map(|frame| ("at", frame.clone())));
    rows
}

/// A task for programs.
#[derive(Debug, Serialize)]
pub struct TaskBody {
    id: TaskId,
    state: &'static str,
    phase: &'static str,
    tenant: String,
    queue: String,
    module: Option<String>,
    function: Option<String>,
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    priority: Option<i16>,
    labels: BTreeMap<String, String>,
    after: Vec<TaskId>,
    attempt: u32,
    attempts: Option<u32>,
    crashes: u32,
    cancel_requested: bool,
    created: String,
    run_at: Option<String>,
    started: Option<String>,
    finished: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stderr: String,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    kind: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    denials: Vec<String>,
}

impl TaskBody {
    /// A task; with its arguments and its result where their types are known.
    pub fn of(info: &Info, module: Option<&Module>) -> Self {
        let head = &info.head;
        let task = info.task.as_ref().ok();
        let ty = result_type(info, module);
        let (ok, err) = sides(ty);
        let result = head.result.as_ref();
        let value = result.and_then(|result| match &result.value {
            Some(Value::Inline(payload)) => payload_json(payload, ok.as_ref()),
            _ => None,
        });
        let error = match result {
            Some(result) => result.error.as_ref(),
            None => head.error.as_ref(),
        };
        Self {
            id: info.id,
            state: head.state.name(),
            phase: head.state.phase().name(),
            tenant: info.lane.tenant.to_string(),
            queue: info.lane.queue.to_string(),
            module: task.map(|task| format!("{}@{}", task.module.name, task.module.version)),
            function: task.map(|task| task.function.clone()),
            digest: task.map(|task| task.module.digest.to_string()),
            args: task.and_then(|task| args_json(task, module)),
            priority: task.map(|task| task.priority.get()),
            labels: task.map(|task| task.labels.clone()).unwrap_or_default(),
            after: task.map(|task| task.after.clone()).unwrap_or_default(),
            attempt: head.attempt,
            attempts: task.map(|task| task.retry.attempts),
            crashes: head.crashes,
            cancel_requested: head.cancel_requested,
            created: moment(head.created),
            run_at: head.run_at.map(moment),
            started: head.started.map(moment),
            finished: head.finished.map(moment),
            result: value,
            error: error.map(|error| ErrorBody {
                kind: error.kind.clone(),
                message: error.message.clone(),
                value: error.value.as_ref().and_then(|value| payload_json(value, err.as_ref())),
                backtrace: error.backtrace.clone(),
                denials: error.denials.clone(),
            }),
            usage: result.map(|result| UsageBody::from(&result.usage)),
            stderr: result.map(|result| result.stderr.clone()).unwrap_or_default(),
        }
    }
}

/// The type a task's function returns, as it is declared; `None` for a command, and where its module is not known.
pub fn result_type<'m>(info: &Info, module: Option<&'m Module>) -> Option<&'m Type> {
    let task = info.task.as_ref().ok()?;
    signature(task, module)?.result.as_ref()
}

/// What success and failure carry. The outer `result` is taken off before a value is stored.
pub fn sides(declared: Option<&Type>) -> (Option<Type>, Option<Type>) {
    match declared {
        Some(Type::Result(sides)) => (sides.ok.clone(), sides.err.clone()),
        other => (other.cloned(), None),
    }
}

fn signature<'m>(
    task: &Task,
    module: Option<&'m Module>,
) -> Option<&'m omniq_model::wit::Signature> {
    let module = module.filter(|module| module.digest == task.module.digest)?;
    Some(&module.functions.iter().find(|function| function.name == task.function)?.signature)
}

/// `add@1.0.0 add`
fn what(info: &Info) -> String {
    match &info.task {
        Ok(task) => {
            let function = task.function.rsplit(['#', '/']).next().unwrap_or_default();
            format!("{}@{} {function}", task.module.name, task.module.version).trim_end().to_owned()
        }
        Err(error) => error.to_string(),
    }
}

fn tries(info: &Info) -> String {
    match &info.task {
        Ok(task) => format!("{}/{}", info.head.attempt, task.retry.attempts),
        Err(_) => info.head.attempt.to_string(),
    }
}

fn state_text(info: &Info, now: Timestamp) -> String {
    let head = &info.head;
    let mut text = head.state.name().to_owned();
    if head.cancel_requested && !head.state.is_terminal() {
        text += ", to be cancelled";
    }
    if let Some(at) = head.run_at.filter(|at| !head.state.is_terminal() && *at > now) {
        text += &format!(", for {} more", span(at.since(now)));
    }
    text
}

fn args_text(task: &Task, module: Option<&Module>) -> String {
    if task.function.is_empty() {
        let input: Option<CommandInput> =
            record::decode("input of a command", &task.args.bytes).ok();
        return input
            .map(|input| {
                let stdin = input.stdin.len() as u64;
                let words = input.args.join(" ");
                if stdin > 0 { format!("{words} < {}", report::bytes(stdin)) } else { words }
            })
            .unwrap_or_default();
    }
    let text = signature(task, module)
        .and_then(|signature| args::to_wave(signature, &task.args.bytes).ok());
    cut(&text
        .unwrap_or_else(|| format!("({} of CBOR)", report::bytes(task.args.bytes.len() as u64))))
}

fn args_json(task: &Task, module: Option<&Module>) -> Option<Box<RawValue>> {
    RawValue::from_string(args::to_json(signature(task, module)?, &task.args.bytes).ok()?).ok()
}

fn value_text(value: &Value, info: &Info, module: Option<&Module>) -> String {
    match value {
        Value::Inline(payload) => {
            payload_text(payload, sides(result_type(info, module)).0.as_ref())
        }
        Value::Stored(stored) => {
            format!("{}; `omniq result {}` fetches it", report::bytes(stored.size), info.id)
        }
    }
}

fn payload_text(payload: &Payload, ty: Option<&Type>) -> String {
    match (payload.format, ty) {
        (Format::Cbor, Some(ty)) => {
            value::wave::write(ty, &payload.bytes).map(|text| cut(&text)).unwrap_or_default()
        }
        (Format::Cbor, None) if payload.bytes == [0xf6] => String::from("nothing"),
        (Format::Raw | Format::Json, _) => cut(&String::from_utf8_lossy(&payload.bytes)),
        _ => format!("{} of CBOR", report::bytes(payload.bytes.len() as u64)),
    }
}

fn payload_json(payload: &Payload, ty: Option<&Type>) -> Option<Box<RawValue>> {
    let json = match (payload.format, ty) {
        (Format::Cbor, Some(ty)) => value::json::write(ty, &payload.bytes).ok()?,
        (Format::Json, _) => String::from_utf8(payload.bytes.clone()).ok()?,
        (Format::Raw, _) => serde_json::to_string(&String::from_utf8_lossy(&payload.bytes)).ok()?,
        _ if payload.bytes == [0xf6] => String::from("null"),
        _ => return None,
    };
    RawValue::from_string(json).ok()
}

/// The beginning of a text, for a table.
fn cut(text: &str) -> String {
    const MAX: usize = 120;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `2026-01-31T12:00:00.000Z`; what lies outside of the years 1970 to 9999 as the first or the last moment of them.
pub fn moment(at: Timestamp) -> String {
    // The form has four digits for a year, and no year is written with more.
    const LAST: u64 = 253_402_300_799_999;
    let since = u64::try_from(at.as_millis()).unwrap_or(0).min(LAST);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(since)).to_string()
}

fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.since(then))
}

/// A span in its largest unit.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let whole = match seconds {
        0..120 => seconds,
        120..7200 => seconds / 60 * 60,
        7200..172_800 => seconds / 3600 * 3600,
        _ => seconds / 86_400 * 86_400,
    };
    if whole == 0 { String::from("0s") } else { Span(Duration::from_secs(whole)).to_string() }
}

/// The time now, by this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (119, "119s"), (150, "2m"), (7300, "2h"), (200_000, "2d")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        for (millis, text) in [
            (1500, "1970-01-01T00:00:01.500Z"),
            (i64::MIN, "1970-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(moment(Timestamp::from_millis(millis)), text);
        }
        // As far apart as two moments can be.
        let (first, last) = (Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX));
        assert!(!age(last, first).is_empty());
        assert_eq!(age(first, last), "0s");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(200);
        assert_eq!(cut(&text).chars().count(), 121);
    }
}
