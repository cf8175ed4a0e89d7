//! How far a long piece of work has come: a bar for who watches, else a line now and then. All on stderr.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console;

/// How often it is told where nobody watches.
const INTERVAL: Duration = Duration::from_secs(5);

/// A bar. It is taken away when it is dropped.
#[derive(Debug)]
pub struct Bar {
    unit: &'static str,
    bar: Option<ProgressBar>,
    told: Mutex<Instant>,
}

impl Bar {
    /// A bar of things called `unit`, whose end is known by `size` if that is known.
    pub fn new(unit: &'static str, size: Option<u64>) -> Self {
        let bar = console::is_watched().then(|| {
            let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr());
            bar.set_style(style(size.is_some()));
            bar
        });
        Self { unit, bar, told: Mutex::new(Instant::now()) }
    }

    /// `count` are done; of `size` so much, where that is known.
    pub fn at(&self, count: u64, of_size: Option<u64>, note: &str) {
        let text = format!("{count} {}, {note}", self.unit);
        if let Some(bar) = &self.bar {
            bar.set_position(of_size.unwrap_or(count));
            bar.set_message(text);
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= INTERVAL {
            *told = Instant::now();
            console::note(&format!("{text}\n"));
        }
    }

    /// The end is there from now on.
    pub fn set_size(&self, size: u64) {
        if let Some(bar) = &self.bar {
            if bar.length().is_none() {
                bar.set_style(style(true));
            }
            bar.set_length(size);
        }
    }

    /// Writes a line where the bar does not overwrite it.
    pub fn line(&self, line: &str) {
        let write = || console::note(&format!("{line}\n"));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(has_end: bool) -> ProgressStyle {
    let template = if has_end { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
    ProgressStyle::with_template(template).expect("the template is valid")
}
