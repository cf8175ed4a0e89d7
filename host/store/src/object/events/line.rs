//! An event as one line of JSON, with a name for each thing a person asks for.
//!
//! What the named columns cannot hold, such as an error's value or fields of a newer version, stands as the whole record
//! in `record`; so an event comes back exactly as it was.

use std::fmt::Display;

use omniq_model::{EventKind, Lane, SessionId, TaskError, TaskEvent, TaskId, Timestamp, record};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::hour::Iso;
use crate::hex;

/// The columns, and their types in SQL. All are there in every line but `session`, `error_kind`, `error` and `record`.
#[cfg(any(feature = "sqlite", feature = "duckdb", test))]
pub(super) const COLUMNS: [(&str, &str); 15] = [
    ("ts", "varchar"),
    ("ms", "bigint"),
    ("task", "varchar"),
    ("fence", "bigint"),
    ("kind", "varchar"),
    ("tenant", "varchar"),
    ("queue", "varchar"),
    ("attempt", "bigint"),
    ("session", "varchar"),
    ("what", "varchar"),
    ("micros", "bigint"),
    ("missing", "bigint"),
    ("error_kind", "varchar"),
    ("error", "varchar"),
    ("record", "varchar"),
];

/// What makes an event the same event.
pub(super) type Identity = (TaskId, u64, EventKind);

pub(super) fn identity(event: &TaskEvent) -> Identity {
    (event.task, event.fence, event.kind)
}

/// A line, column by column.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "as_text")]
    ts: Iso,
    ms: i64,
    #[serde(serialize_with = "as_text")]
    task: TaskId,
    fence: u64,
    kind: &'a str,
    tenant: &'a str,
    queue: &'a str,
    attempt: u32,
    what: &'a str,
    micros: u64,
    missing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The event as a line, with its end.
pub(super) fn encode(event: &TaskEvent) -> String {
    let error = event.error.as_ref();
    let line = Line {
        ts: Iso(event.at),
        ms: event.at.as_millis(),
        task: event.task,
        fence: event.fence,
        kind: event.kind.name(),
        tenant: event.lane.tenant.as_str(),
        queue: event.lane.queue.as_str(),
        attempt: event.attempt,
        what: &event.what,
        micros: event.micros,
        missing: event.missing,
        session: event.session.map(|session| session.to_string()),
        error_kind: error.map(|error| error.kind.as_str()),
        error: error.map(|error| error.message.as_str()),
        record: (!is_plain(event)).then(|| hex::encode(&record::encode(event))),
    };
    let mut line = serde_json::to_string(&line).expect("text and numbers are JSON");
    line.push('\n');
    line
}

/// Whether the named columns alone give the event back.
fn is_plain(event: &TaskEvent) -> bool {
    let plain = |error: &TaskError| {
        let TaskError { kind: _, message: _, value, backtrace, hint, denials, unknown } = error;
        value.is_none()
            && backtrace.is_empty()
            && hint.is_empty()
            && denials.is_empty()
            && unknown.is_empty()
    };
    EventKind::from_name(event.kind.name()) == Some(event.kind)
        && event.unknown.is_empty()
        && event.error.as_deref().is_none_or(plain)
}

/// The event of a line.
///
/// # Errors
/// Why it is none.
pub(super) fn decode(line: &[u8]) -> Result<TaskEvent, String> {
    let line: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if let Some(record) = line.get("record").and_then(Value::as_str) {
        let bytes = hex::decode(record).ok_or("its record is not hexadecimal")?;
        return record::decode("event", &bytes).map_err(|error| error.to_string());
    }
    plain(&line).ok_or_else(|| "a column is missing or is not what it should be".to_owned())
}

/// The event that the named columns alone give.
fn plain(line: &Map<String, Value>) -> Option<TaskEvent> {
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let number = |name: &str| line.get(name).and_then(Value::as_u64);
    let session = match text("session") {
        Some(hex) => Some(SessionId::new(u64::from_str_radix(hex, 16).ok()?)),
        None => None,
    };
    let error = text("error_kind").map(|kind| TaskError {
        kind: kind.to_owned(),
        message: text("error").unwrap_or_default().to_owned(),
        value: None,
        backtrace: Vec::new(),
        hint: String::new(),
        denials: Vec::new(),
        unknown: Default::default(),
    });
    Some(TaskEvent {
        task: text("task")?.parse().ok()?,
        fence: number("fence")?,
        kind: EventKind::from_name(text("kind")?)?,
        at: Timestamp::from_millis(line.get("ms")?.as_i64()?),
        lane: Lane { tenant: text("tenant")?.parse().ok()?, queue: text("queue")?.parse().ok()? },
        attempt: u32::try_from(number("attempt")?).ok()?,
        session,
        error: error.map(Box::new),
        micros: number("micros")?,
        missing: number("missing")?,
        what: text("what")?.to_owned(),
        began: None,
        unknown: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use omniq_model::{Kind, Payload};

    use super::*;

    fn event() -> TaskEvent {
        TaskEvent {
            task: TaskId::derived(&[b"t"]),
            fence: 3,
            kind: EventKind::Failed,
            at: Timestamp::from_millis(1_700_000_000_000),
            lane: Lane { tenant: "acme".parse().unwrap(), queue: "media/a".parse().unwrap() },
            attempt: 2,
            session: Some(SessionId::new(7)),
            error: Some(Box::new(TaskError::new(Kind::Trap, "it \"trapped\"\nhere ☠"))),
            micros: 1500,
            missing: 0,
            what: "resize.thumb".into(),
            began: None,
            unknown: Default::default(),
        }
    }

    #[test]
    fn an_event_is_one_line_of_named_columns() {
        let line = encode(&event());
        assert_eq!(line.matches('\n').count(), 1);
        let value: Map<String, Value> = serde_json::from_str(&line).unwrap();
        assert!(!value.contains_key("record"), "{line}");
        assert_eq!(value["ts"], "2023-11-14T22:13:20.000Z");
        assert_eq!(value["error"], "it \"trapped\"\nhere ☠");
        let known = |name: &String| COLUMNS.iter().any(|(column, _)| column == name);
        assert!(value.keys().all(known), "{line}");
    }

    #[test]
    fn every_event_comes_back_as_it_was() {
        let plain = event();
        let rich = TaskEvent {
            error: Some(Box::new(TaskError {
                value: Some(Payload::cbor([1])),
                ..*plain.error.clone().unwrap()
            })),
            ..plain.clone()
        };
        let newer = TaskEvent { unknown: [(99, true.into())].into(), ..plain.clone() };
        let strange = TaskEvent { kind: EventKind::Other(200), ..plain.clone() };
        let extreme = TaskEvent {
            fence: u64::MAX,
            micros: u64::MAX,
            at: Timestamp::from_millis(i64::MIN),
            session: None,
            error: None,
            ..plain.clone()
        };
        for event in [plain, rich, newer, strange, extreme] {
            assert_eq!(decode(encode(&event).as_bytes()), Ok(event));
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (line, part) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("{}", "a column is missing"),
            ("[]", "expected a map"),
            (r#"{"record":"0"}"#, "not hexadecimal"),
            (r#"{"record":"00"}"#, "not readable"),
        ] {
            let error = decode(line.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
