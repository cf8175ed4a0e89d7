//! Serves `omniq:task` to a guest: who it is, and where its log lines and progress go.

use std::borrow::Cow;
use std::sync::Arc;

use omniq_model::{Task, Timestamp};
use omniq_sandbox::import::task::{Denial, Info, Level, Payload, TaskHost};

use crate::logging::GUEST_TARGET;

/// The task of one attempt, as its guest sees it.
#[derive(Debug)]
pub(super) struct WorkerTask {
    pub task: Arc<Task>,
    pub attempt: u32,
    pub created: Timestamp,
    pub cursor: Option<Payload>,
}

impl WorkerTask {
    /// What the guest is called, in the shortest form that people use.
    fn target(&self) -> String {
        match self.task.function.as_str() {
            "" => String::from("command"),
            name => name.rsplit(['#', '/']).next().unwrap_or(name).to_owned(),
        }
    }
}

impl TaskHost for WorkerTask {
    fn info(&self) -> Info {
        let id = self.task.id.to_string();
        Info {
            id: id.clone(),
            target: self.target(),
            attempt: self.attempt,
            max_attempts: self.task.retry.attempts,
            enqueued_at: u64::try_from(self.created.as_millis()).unwrap_or(0),
            deadline: None, // the sandbox knows it
            idempotency_key: id,
            traceparent: self.header("traceparent"),
        }
    }

    /// Headers are the task's labels.
    fn header(&self, name: &str) -> Option<String> {
        let labels = &self.task.labels;
        let found = labels.iter().find(|(label, _)| label.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }

    fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>) {
        let task = self.task.id;
        tracing::debug!(target: GUEST_TARGET, %task, done, total, note, "progress");
    }

    fn heartbeat(&mut self, cursor: Option<Payload>) {
        if cursor.is_some() {
            self.cursor = cursor;
        }
    }

    /// The one this attempt set: cursors of earlier attempts are not kept.
    fn last_cursor(&self) -> Option<Payload> {
        self.cursor.clone()
    }

    fn log(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        let task = self.task.id;
        // The fields are escaped as they are written.
        let message = tame(message);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: GUEST_TARGET, %task, ?fields, "{message}")
            };
        }
        match level {
            Level::Trace => line!(trace),
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error => line!(error),
        }
    }

    fn write(&mut self, _: &[u8]) -> Result<(), Denial> {
        // Refused rather than lost: what cannot be read later must not look kept.
        Err(Denial::Unavailable(String::from(
            "this worker keeps no output yet: return what is to be kept as the result",
        )))
    }

    fn media_type(&mut self, _: &str) {}
}

/// A guest's text with its control characters escaped, those of lines first of all: each line of the log is OmniQ's own.
fn tame(text: &str) -> Cow<'_, str> {
    let is_line_end = |character: char| matches!(character, '\u{2028}' | '\u{2029}');
    let is_wild = |character: char| character.is_control() || is_line_end(character);
    if !text.contains(is_wild) {
        return Cow::Borrowed(text);
    }
    let mut tame = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match is_wild(character) {
            true => tame.extend(character.escape_default()),
            false => tame.push(character),
        }
    }
    Cow::Owned(tame)
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write as _};
    use std::sync::Mutex;

    use omniq_model::{Digest, ModuleRef, TaskId};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Keeps what is logged: the target, and each field as text.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    struct Text<'a>(&'a mut String);

    impl Visit for Text<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = event.metadata().target().to_owned();
            event.record(&mut Text(&mut line));
            self.0.lock().unwrap().push(line);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_guest_writes_one_line_at_a_time_in_its_own_name() {
        let module = ModuleRef {
            digest: Digest::from_sha256([0; 32]),
            name: "m".parse().unwrap(),
            version: "1".parse().unwrap(),
            unknown: Default::default(),
        };
        let task = omniq_model::Task::new(
            TaskId::derived(&[b"t"]),
            module,
            "run",
            omniq_model::Payload::cbor([0x80]),
        );
        let (task, created) = (Arc::new(task), Timestamp::default());
        let mut host = WorkerTask { task, attempt: 1, created, cursor: None };
        let lines = Lines::default();
        let text = "done\nERROR omniq::worker: forged\r\u{1b}[2J\u{2028}";
        tracing::subscriber::with_default(lines.clone(), || {
            host.log(Level::Info, text, &[(text.to_owned(), text.to_owned())]);
            host.report(1, None, Some(text));
        });
        let lines = lines.0.lock().unwrap().clone();
        assert_eq!(lines.len(), 2);
        for line in &lines {
            assert!(line.starts_with(GUEST_TARGET), "{line}");
            assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
            assert!(
                line.contains(r"done\nERROR omniq::worker: forged\r\u{1b}[2J\u{2028}"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_text_without_control_characters_stays_as_it_is() {
        assert!(matches!(tame("Größe: 3 µm"), Cow::Borrowed("Größe: 3 µm")));
    }
}
