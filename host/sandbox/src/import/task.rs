//! `omniq:task`: what a task may ask about itself, and say while it runs.
//!
//! The interfaces are linked for every guest and served by a [`TaskHost`]: a queue's worker, or [`LocalTask`] where there
//! is no queue.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use omniq_model::Kind;
use wasmtime::component::{HasData, Linker};

use super::State;
use crate::limit::Stop;

mod bindings {
    #![expect(missing_docs, reason = "generated from wit/, where everything is documented")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "imports",
        imports: { default: trappable },
    });
}

use bindings::omniq::task as wit;

pub use wit::context::Info;
pub use wit::log::Level;
pub use wit::types::{Denial, Payload};

/// Bytes of a log line that are kept, its fields included.
const LOG_LINE: usize = 16 << 10;
/// What a field takes of a line beside its text, so that empty ones are not without end.
const FIELD: usize = 16;
/// Bytes of a cursor.
const CURSOR: usize = 64 << 10;
/// Bytes of a media type.
const MEDIA_TYPE: usize = 255;

/// Serves one attempt of a task.
///
/// Calls come from the thread that runs the guest, one at a time, and hold the guest up: do not block.
pub trait TaskHost: Send {
    /// Which attempt this is. Its deadline is filled in by the sandbox.
    fn info(&self) -> Info;

    /// A header that was handed in with the task.
    fn header(&self, name: &str) -> Option<String>;

    /// How far the task has come: `done` of `total`, in units of its own.
    fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>);

    /// The task is alive; a cursor replaces the one before it.
    fn heartbeat(&mut self, cursor: Option<Payload>);

    /// The cursor last set, by this attempt or the one before it.
    fn last_cursor(&self) -> Option<Payload>;

    /// One log line, already cut to its limit.
    fn log(&mut self, level: Level, message: &str, fields: &[(String, String)]);

    /// More bytes of the task's output.
    ///
    /// # Errors
    /// Says in the guest's words why they cannot be kept.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Denial>;

    /// What the output is: an internet media type.
    fn media_type(&mut self, media_type: &str);
}

/// Serves a task that no queue handed in: first attempt of one, log and progress go nowhere, output is kept.
#[derive(Debug, Default)]
pub struct LocalTask {
    output: Arc<Mutex<Vec<u8>>>,
    target: String,
    cursor: Option<Payload>,
}

impl LocalTask {
    /// A task that runs `target`.
    pub fn new(target: impl Into<String>) -> Self {
        Self { target: target.into(), ..Self::default() }
    }

    /// What the task writes through `omniq:task/output`; keep it before the task is handed to a call.
    pub fn output(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.output)
    }
}

impl TaskHost for LocalTask {
    fn info(&self) -> Info {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Info {
            id: String::from("00000000-0000-7000-8000-000000000000"),
            target: self.target.clone(),
            attempt: 1,
            max_attempts: 1,
            enqueued_at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            deadline: None,
            idempotency_key: String::from("00000000-0000-7000-8000-000000000000"),
            traceparent: None,
        }
    }

    fn header(&self, _: &str) -> Option<String> {
        None
    }

    fn report(&mut self, _: u64, _: Option<u64>, _: Option<&str>) {}

    fn heartbeat(&mut self, cursor: Option<Payload>) {
        if cursor.is_some() {
            self.cursor = cursor;
        }
    }

    fn last_cursor(&self) -> Option<Payload> {
        self.cursor.clone()
    }

    fn log(&mut self, _: Level, _: &str, _: &[(String, String)]) {}

    fn write(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(())
    }

    fn media_type(&mut self, _: &str) {}
}

/// The host of one attempt and what its guest has used of it.
pub(crate) struct TaskState {
    pub host: Box<dyn TaskHost>,
    lines: u64,
    output: u64,
}

impl fmt::Debug for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskState")
            .field("lines", &self.lines)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl TaskState {
    pub fn new(host: Box<dyn TaskHost>) -> Self {
        Self { host, lines: 0, output: 0 }
    }

    /// Writes a log line, from whichever interface it came.
    pub fn log(
        &mut self,
        limit: u64,
        level: Level,
        message: &str,
        fields: &[(String, String)],
    ) -> Result<(), Stop> {
        self.lines += 1;
        if self.lines > limit {
            return Err(Stop::new(
                Kind::LogLines,
                format!("the guest wrote more than {limit} log lines"),
            ));
        }
        let mut room = LOG_LINE;
        let message = cut(message, &mut room);
        let fields: Vec<_> = fields
            .iter()
            .map_while(|(key, value)| {
                room = room.checked_sub(FIELD)?;
                Some((cut(key, &mut room).to_owned(), cut(value, &mut room).to_owned()))
            })
            .collect();
        self.host.log(level, message, &fields);
        Ok(())
    }
}

/// The start of `text` that fits into `room`, cut between characters; takes its length from the room.
fn cut<'a>(text: &'a str, room: &mut usize) -> &'a str {
    let end = text.floor_char_boundary(*room);
    *room -= end;
    &text[..end]
}

fn is_media_type(text: &str) -> bool {
    text.len() <= MEDIA_TYPE && text.contains('/') && text.is_ascii()
}

fn no_media_type() -> Denial {
    Denial::BadArgument(format!(
        "a media type looks like `image/png`, in at most {MEDIA_TYPE} ASCII characters"
    ))
}

struct Task;

impl HasData for Task {
    type Data<'a> = &'a mut State;
}

pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    macro_rules! serve {
        ($($name:literal => $interface:ident)+) => {$(
            wit::$interface::add_to_linker::<State, Task>(linker, |state| {
                state.seam.enter($name);
                state
            })?;
        )+};
    }
    serve! {
        "omniq:task/context" => context
        "omniq:task/progress" => progress
        "omniq:task/log" => log
        "omniq:task/output" => output
    }
    Ok(())
}

impl wit::types::Host for State {}

impl wit::context::Host for State {
    fn get(&mut self) -> wasmtime::Result<Info> {
        let mut info = self.task.host.info();
        info.deadline = self.remaining()?.and_then(|left| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            u64::try_from(now.as_millis()).ok()?.checked_add(left)
        });
        Ok(info)
    }

    fn header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.task.host.header(&name))
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.meter.cancel_switch().is_cancelled())
    }

    fn remaining(&mut self) -> wasmtime::Result<Option<u64>> {
        let left = self.limits.timeout.saturating_sub(self.meter.started().elapsed());
        Ok(u64::try_from(left.as_millis()).ok())
    }
}

impl wit::progress::Host for State {
    fn report(
        &mut self,
        done: u64,
        total: Option<u64>,
        note: Option<String>,
    ) -> wasmtime::Result<Result<(), Denial>> {
        let mut room = LOG_LINE;
        self.task.host.report(done, total, note.as_deref().map(|note| cut(note, &mut room)));
        Ok(Ok(()))
    }

    fn heartbeat(&mut self, cursor: Option<Payload>) -> wasmtime::Result<Result<(), Denial>> {
        if let Some(Payload { media_type, body }) = &cursor {
            let length = body.len();
            if length > CURSOR {
                let message = format!("the cursor has {length} bytes; the limit is {CURSOR}");
                return Ok(Err(Denial::OverQuota(message)));
            }
            if !is_media_type(media_type) {
                return Ok(Err(no_media_type()));
            }
        }
        self.task.host.heartbeat(cursor);
        Ok(Ok(()))
    }

    fn last_cursor(&mut self) -> wasmtime::Result<Option<Payload>> {
        Ok(self.task.host.last_cursor())
    }
}

impl wit::log::Host for State {
    fn emit(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        Ok(self.task.log(self.limits.log_lines, level, &message, &fields)?)
    }
}

impl wit::output::Host for State {
    fn write(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Result<(), Denial>> {
        let limit = self.limits.output;
        self.task.output = self.task.output.saturating_add(bytes.len() as u64);
        if self.task.output > limit {
            return Err(Stop::too_large("the output", limit).into());
        }
        Ok(self.task.host.write(&bytes))
    }

    fn set_media_type(&mut self, media_type: String) -> wasmtime::Result<Result<(), Denial>> {
        if !is_media_type(&media_type) {
            return Ok(Err(no_media_type()));
        }
        self.task.host.media_type(&media_type);
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the fields of the last log line.
    struct Listener(Arc<Mutex<Vec<(String, String)>>>, LocalTask);

    impl TaskHost for Listener {
        fn info(&self) -> Info {
            self.1.info()
        }
        fn header(&self, name: &str) -> Option<String> {
            self.1.header(name)
        }
        fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>) {
            self.1.report(done, total, note);
        }
        fn heartbeat(&mut self, cursor: Option<Payload>) {
            self.1.heartbeat(cursor);
        }
        fn last_cursor(&self) -> Option<Payload> {
            self.1.last_cursor()
        }
        fn log(&mut self, _: Level, _: &str, fields: &[(String, String)]) {
            *self.0.lock().unwrap() = fields.to_vec();
        }
        fn write(&mut self, bytes: &[u8]) -> Result<(), Denial> {
            self.1.write(bytes)
        }
        fn media_type(&mut self, media_type: &str) {
            self.1.media_type(media_type);
        }
    }

    #[test]
    fn the_fields_of_a_log_line_end_somewhere() {
        let heard = Arc::default();
        let mut task = TaskState::new(Box::new(Listener(Arc::clone(&heard), LocalTask::default())));
        let mut fields_of = |message: &str, fields: &[(String, String)]| {
            task.log(10, Level::Info, message, fields).unwrap();
            heard.lock().unwrap().clone()
        };
        let few = [("id".to_owned(), "7".to_owned()), ("empty".to_owned(), String::new())];
        assert_eq!(fields_of("all of it", &few), few);
        let empty = vec![(String::new(), String::new()); 100_000];
        assert_eq!(fields_of("", &empty).len(), LOG_LINE / FIELD);
        assert_eq!(fields_of(&"x".repeat(LOG_LINE), &few), [], "the message leaves no room");
    }
}
