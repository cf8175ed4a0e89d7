//! The reader of the log: lines of text or JSON on stderr, filtered by levels that can be changed meanwhile.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::thread;

use omniq::config::{Log, Sources};
use omniq::logging::{LOG_TARGET, Level, Levels, LogControl, LogFormat};
use omniq_model::Kind;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

use crate::output::console;
use crate::output::problem::Problem;

/// Lines that wait for whoever reads stderr; those beyond are dropped.
const WAITING: usize = 10_000;

/// What writes the lines of a service, and how many it had to drop.
static WRITER: Mutex<Option<(WorkerGuard, ErrorCounter)>> = Mutex::new(None);

/// Starts the log of this process; `general` is the level where nobody sets one. A service never waits for whoever reads its
/// log: one that stands still, such as a pipe that is full, would stop the service, and any guest could bring that about.
///
/// # Errors
/// It has been started before.
pub fn start(log: &Log, general: Level, is_service: bool) -> Result<LogControl, Problem> {
    let levels = Levels::new(log, general);
    let (filter, handle) = reload::Layer::new(filter_of(&levels));
    let writer = if is_service { in_background() } else { BoxMakeWriter::new(io::stderr) };
    // A line that cannot be written is lost: there is nobody left to tell.
    let lines = fmt::layer().with_writer(writer).log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => {
            let is_colourful = console::is_watched()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry().with(lines.with_ansi(is_colourful).with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            registry().with(lines.json().flatten_event(true).with_filter(filter)).try_init()
        }
    };
    started
        .map_err(|error| Problem::new(Kind::Host, format!("the log cannot be started: {error}")))?;
    Ok(LogControl::new(levels, move |levels| {
        // It fails only when the subscriber is gone, and with it everybody who would hear.
        let _ = handle.reload(filter_of(levels));
    }))
}

/// Lines are written by a thread of their own, until [`end`].
fn in_background() -> BoxMakeWriter {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING);
    let (writer, guard) = builder.thread_name("omniq-log").finish(io::stderr());
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some((guard, writer.error_counter()));
    BoxMakeWriter::new(writer)
}

/// Writes what waits, if whoever reads it takes it within a second.
pub fn end() {
    let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((guard, dropped)) = writer else { return };
    drop(guard);
    if dropped.dropped_lines() > 0 {
        let text = "lines of the log were dropped: whoever reads stderr did not keep up";
        console::last_words(format!("warning: {} {text}\n", dropped.dropped_lines()));
    }
}

fn filter_of(levels: &Levels) -> Targets {
    Targets::new().with_default(levels.elsewhere()).with_targets(levels.directives())
}

/// Reads what is said about the log again whenever this process gets SIGHUP. Where stdin is a terminal, the signal means
/// that the terminal is gone, and keeps its usual meaning.
pub fn follow_hangups(control: &LogControl, sources: Sources, general: Level) {
    if io::stdin().is_terminal() {
        return;
    }
    let Ok(mut signals) = Signals::new([SIGHUP]) else { return };
    let levels = control.levels();
    // Unlike what a hangup then changes, this is not said to who asked to hear less.
    if levels.general <= Level::Info {
        tracing::info!(target: LOG_TARGET, %levels, "log levels are read again on SIGHUP");
    }
    let control = control.clone();
    let watch = move || {
        for _ in signals.forever() {
            read_again(&control, &sources, general);
        }
    };
    // Without the thread the signal is ignored, which is better than to end.
    if thread::Builder::new().name(String::from("omniq-hangup")).spawn(watch).is_err() {
        console::warning("log levels cannot be changed with SIGHUP");
    }
}

/// Replaces the levels by what the sources now say, and says so; leaves them where that is wrong.
fn read_again(control: &LogControl, sources: &Sources, general: Level) {
    match Log::load(sources) {
        Ok(log) => {
            let levels = Levels::new(&log, general);
            tracing::info!(target: LOG_TARGET, %levels, "log levels were read again");
            control.replace(levels);
        }
        Err(error) => {
            let levels = control.levels();
            tracing::error!(target: LOG_TARGET, %error, %levels, "log levels stay as they are");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use omniq::logging::Component;

    use super::*;

    #[test]
    fn a_hangup_reads_the_levels_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("omniq.toml");
        fs::write(&file, "[log]\nlevel = 'ERROR'\n").unwrap();
        let sources = Sources::new().file(&file);
        let (sender, applied) = mpsc::channel();
        let levels = Levels::new(&Log::load(&sources).unwrap(), Level::Info);
        let control =
            LogControl::new(levels, move |levels| sender.send(levels.to_string()).unwrap());
        // What `follow_hangups` does where stdin is no terminal; that of a test may be one.
        let mut signals = Signals::new([SIGHUP]).unwrap();
        let (again, general) = (control.clone(), Level::Info);
        let watch = thread::spawn(move || {
            for _ in signals.forever().take(3) {
                read_again(&again, &sources, general);
            }
        });
        let hang_up = |text: &str| {
            fs::write(&file, text).unwrap();
            signal_hook::low_level::raise(SIGHUP).unwrap();
            applied.recv_timeout(Duration::from_secs(30)).unwrap()
        };
        assert_eq!(
            hang_up("[log]\nlevel = 'INFO'\ncomponents = { store = 'DEBUG' }\n[nonsense]\n"),
            "INFO, store DEBUG"
        );
        assert_eq!(hang_up(""), "INFO", "the default of this process");
        fs::write(&file, "[log]\nlevel = 'LOUD'\n").unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        watch.join().unwrap();
        assert!(applied.try_recv().is_err(), "a mistake changes nothing");
        assert_eq!(control.levels().general, Level::Info);
    }

    /// What a filter lets through, and that a new one holds at once.
    #[test]
    fn levels_filter_by_component_and_change_at_once() {
        #[derive(Clone, Default)]
        struct Buffer(Arc<Mutex<Vec<u8>>>);
        impl Write for Buffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = Buffer::default();
        let writer = written.clone();
        let levels = Levels::new(&Log::load(&Sources::new()).unwrap(), Level::Info);
        let (filter, handle) = reload::Layer::new(filter_of(&levels));
        let layer =
            fmt::layer().with_writer(move || writer.clone()).without_time().with_ansi(false);
        let _guard = registry().with(layer.with_filter(filter)).set_default();
        let control =
            LogControl::new(levels, move |levels| handle.reload(filter_of(levels)).unwrap());
        let speak = || {
            tracing::debug!(target: "omniq_store::sqlite", "store");
            tracing::debug!(target: "omniq::worker", "worker");
            tracing::info!(target: "omniq::queue", "queue");
            tracing::info!(target: "sqlx::query", "database");
            let text = String::from_utf8(std::mem::take(&mut *written.0.lock().unwrap())).unwrap();
            text.lines()
                .map(|line| line.split(' ').next_back().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(speak(), ["queue"]);
        control.set(Component::Store, Level::Debug);
        assert_eq!(speak(), ["store", "queue"]);
        control.set(Component::Database, Level::Info);
        control.set_general(Level::Error);
        assert_eq!(speak(), ["store", "database"]);
        control.replace(Levels { disabled: true, ..control.levels() });
        assert_eq!(speak(), [""; 0]);
    }
}
