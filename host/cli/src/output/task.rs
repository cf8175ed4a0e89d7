//! Serves `omniq:task` to a run without a queue: progress as a bar, log lines on stderr, output into a file.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use omniq_sandbox::import::task::{Denial, Info, Level, LocalTask, Payload, TaskHost};

use super::console::{self, tame};
use super::file::OutputFile;
use super::problem::Problem;
use super::report;

/// How often progress is told where nobody watches.
const INTERVAL: Duration = Duration::from_secs(5);

/// The task a run serves; the guest's calls come to [`Self::host`], and [`Self::finish`] says what became of them.
#[derive(Debug)]
pub struct Task {
    shared: Arc<Mutex<Shared>>,
    target: String,
}

#[derive(Debug)]
struct Shared {
    progress: Progress,
    output: Output,
}

/// The guest's side of a [`Task`].
#[derive(Debug)]
struct Host {
    local: LocalTask,
    shared: Arc<Mutex<Shared>>,
}

impl Task {
    /// A task that runs `target`, whose output goes to the file `output`, if there is one.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(target: impl Into<String>, output: Option<&Path>) -> Result<Self, Problem> {
        let shared =
            Shared { progress: Progress::new(console::is_watched()), output: Output::new(output)? };
        Ok(Self { shared: Arc::new(Mutex::new(shared)), target: target.into() })
    }

    /// What is given to the call.
    pub fn host(&self) -> Box<dyn TaskHost> {
        Box::new(Host { local: LocalTask::new(&*self.target), shared: Arc::clone(&self.shared) })
    }

    /// The call has ended: takes the bar away, and puts the output in its place if the call succeeded.
    ///
    /// # Errors
    /// The output cannot be put in its place.
    pub fn finish(self, succeeded: bool) -> Result<(), Problem> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.progress.finish();
        std::mem::take(&mut shared.output).finish(succeeded)
    }
}

impl Host {
    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskHost for Host {
    fn info(&self) -> Info {
        self.local.info()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.local.header(name)
    }

    fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>) {
        self.shared().progress.report(done, total, note);
    }

    fn heartbeat(&mut self, cursor: Option<Payload>) {
        self.local.heartbeat(cursor);
    }

    fn last_cursor(&self) -> Option<Payload> {
        self.local.last_cursor()
    }

    fn log(&mut self, level: Level, message: &str, fields: &[(String, String)]) {
        self.shared().progress.line(&log_line(level, message, fields));
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        self.shared()
            .output
            .write(bytes)
            .map_err(|error| Denial::Unavailable(format!("the output cannot be written: {error}")))
    }

    fn media_type(&mut self, media_type: &str) {
        self.shared().output.media_type = Some(tame(media_type));
    }
}

/// `WARN  message key=value`, on one line.
fn log_line(level: Level, message: &str, fields: &[(String, String)]) -> String {
    let level = match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    let mut line = format!("{level:<5} {}", tame(message));
    for (key, value) in fields {
        let value = tame(value);
        let plain = !value.is_empty() && !value.contains([' ', '"', '=']);
        line += &if plain {
            format!(" {}={value}", tame(key))
        } else {
            format!(" {}={value:?}", tame(key))
        };
    }
    line
}

/// How far the guest has come: a bar for who watches, else a line now and then.
#[derive(Debug)]
struct Progress {
    is_watched: bool,
    bar: Option<ProgressBar>,
    /// Whether the bar knows where it ends.
    has_end: bool,
    told: Instant,
    /// What was not told yet.
    latest: Option<String>,
}

impl Progress {
    fn new(is_watched: bool) -> Self {
        Self { is_watched, bar: None, has_end: false, told: Instant::now(), latest: None }
    }

    fn report(&mut self, done: u64, total: Option<u64>, note: Option<&str>) {
        let note = note.map(tame).unwrap_or_default();
        if self.is_watched {
            self.draw(done, total, note);
            return;
        }
        let line = progress_line(done, total, &note);
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            self.latest = None;
            self.line(&line);
        } else {
            self.latest = Some(line);
        }
    }

    fn draw(&mut self, done: u64, total: Option<u64>, note: String) {
        let has_end = total.is_some();
        let is_new = self.bar.is_none();
        let bar = self.bar.get_or_insert_with(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        });
        if is_new || self.has_end != has_end {
            self.has_end = has_end;
            bar.set_style(style(has_end));
        }
        bar.update(|state| {
            state.set_pos(done);
            if let Some(total) = total {
                state.set_len(total);
            }
        });
        bar.set_message(note);
    }

    /// Writes a line where the bar does not overwrite it.
    fn line(&self, line: &str) {
        let write = || console::note(&format!("{line}\n"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(line) = self.latest.take() {
            self.line(&line);
        }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = match has_total {
        true => "{bar:30} {percent:>3}% {pos}/{len} {msg}",
        false => "{spinner} {pos} {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is valid")
}

/// `progress 3/10 (30%) half-way`
fn progress_line(done: u64, total: Option<u64>, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!(" {note}") };
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("progress {done}/{total} ({percent}%){note}")
        }
        _ => format!("progress {done}{note}"),
    }
}

/// What a guest writes through `omniq:task/output`.
#[derive(Debug, Default)]
struct Output {
    file: Option<OutputFile>,
    length: u64,
    media_type: Option<String>,
}

impl Output {
    fn new(path: Option<&Path>) -> Result<Self, Problem> {
        Ok(Self { file: path.map(OutputFile::new).transpose()?, ..Self::default() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Ok(()),
        }
    }

    fn finish(self, succeeded: bool) -> Result<(), Problem> {
        let Self { file, length, media_type } = self;
        let size = report::bytes(length);
        let kind = media_type.map(|media_type| format!(" of {media_type}")).unwrap_or_default();
        match file {
            Some(file) if succeeded => file.keep()?,
            Some(file) if length > 0 => {
                console::note(&format!(
                    "note: the output is incomplete and not kept as `{}`\n",
                    file.path().display()
                ));
            }
            None if length > 0 => {
                console::note(&format!(
                    "note: the task wrote {size}{kind} as its output; keep it with `--output FILE`\n"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_one_line() {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let fields =
            [field("id", "7"), field("name", "a b"), field("empty", ""), field("x\ny", "1")];
        assert_eq!(
            log_line(Level::Warn, "slow\nrow", &fields),
            r#"WARN  slow row id=7 name="a b" empty="" x y=1"#
        );
    }

    #[test]
    fn progress_in_words() {
        assert_eq!(progress_line(3, Some(10), "rows"), "progress 3/10 (30%) rows");
        assert_eq!(
            progress_line(u64::MAX, Some(1), ""),
            format!("progress {0}/1 ({0}00%)", u64::MAX)
        );
        assert_eq!(progress_line(3, None, ""), "progress 3");
        assert_eq!(progress_line(3, Some(0), ""), "progress 3");
    }
}
