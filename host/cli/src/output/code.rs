//! Where the compiled code of a component came from, and what is shown while it is made.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{console, report};

/// Most components are compiled before this; nothing is shown for them.
const PATIENCE: Duration = Duration::from_millis(300);
/// Where nobody watches, one line says what takes so long.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Where compiled code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// From the cache.
    Cached,
    /// It was compiled just now, in this time.
    #[serde(serialize_with = "seconds")]
    Compiled(Duration),
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cached => f.write_str("cached"),
            Self::Compiled(span) => write!(f, "compiled in {}", report::span(*span)),
        }
    }
}

/// Tells a person who waits for the compiler what is going on. Ends when it is dropped.
#[derive(Debug)]
pub struct Compiling {
    began: Instant,
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Compiling {
    /// Begins; `size` is that of the component.
    pub fn start(size: u64) -> Self {
        let (done, ended) = mpsc::channel();
        let is_watched = console::is_watched();
        let wait = move || {
            let patience = if is_watched { PATIENCE } else { LOG_PATIENCE };
            if ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let what =
                format!("compiling {} of WebAssembly (once per component)", report::bytes(size));
            if !is_watched {
                console::note(&format!("{what} …\n"));
                return;
            }
            let spinner = spinner(what);
            // Only the end of the work ends the wait: the sender is dropped.
            let _ = ended.recv();
            spinner.finish_and_clear();
        };
        // Without the thread the work is done all the same, only silently.
        let thread = thread::Builder::new().name(String::from("omniq-compiling")).spawn(wait).ok();
        Self { began: Instant::now(), done: Some(done), thread }
    }

    /// What there is to say when the code is ready.
    pub fn finish(self) -> Code {
        Code::Compiled(self.began.elapsed())
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, the spinner is all that is lost.
            let _ = thread.join();
        }
    }
}

fn spinner(what: String) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is valid");
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    spinner.set_style(style);
    spinner.set_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
