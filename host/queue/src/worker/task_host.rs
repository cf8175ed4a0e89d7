//! Serves `omniq:task` to a guest: who it is, and where its log lines and progress go.

use std::sync::Arc;

use omniq_model::{Task, Timestamp};
use omniq_sandbox::import::task::{Denial, Info, Level, Payload, TaskHost};

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
        tracing::debug!(target: "omniq::task", %task, done, total, note, "progress");
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
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "omniq::task", %task, ?fields, "{message}")
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
