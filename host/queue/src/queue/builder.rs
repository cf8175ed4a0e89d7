//! The settings of a queue, said in the program.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Queue;
use crate::config::quantity::Span;
use crate::config::{Config, Sources};
use crate::error::Result;

/// Settings of a [`Queue`]. What is not said is the default, or follows from what is said: results and modules live with
/// the tasks, events beside them.
///
/// Every setting of [`Config`] can be said with [`set`](Self::set); the others are shorter ways to say the most common.
#[derive(Debug, Clone)]
#[must_use = "nothing is opened until `open` is called"]
pub struct QueueBuilder<Q = Queue> {
    sources: Sources,
    queue: PhantomData<fn() -> Q>,
}

impl<Q> QueueBuilder<Q> {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources, queue: PhantomData }
    }

    /// Where tasks live, such as `sqlite:omniq.db` or `memory:`. Default: `sqlite:.omniq/omniq.db`.
    pub fn tasks(self, url: impl AsRef<str>) -> Self {
        self.set("tasks.url", url)
    }

    /// Where results live that do not fit into their task's record. Default: with the tasks.
    pub fn results(self, url: impl AsRef<str>) -> Self {
        self.set("results.url", url)
    }

    /// Where events live. Default: an SQLite file beside that of the tasks; none where tasks live in memory.
    pub fn events(self, url: impl AsRef<str>) -> Self {
        self.set("events.url", url)
    }

    /// Where modules live. Default: with the tasks.
    pub fn modules(self, url: impl AsRef<str>) -> Self {
        self.set("objects.url", url)
    }

    /// The most tasks a worker of this process runs at once. Default: 32 for each processor.
    pub fn slots(self, slots: NonZeroU32) -> Self {
        self.set("workers.max", slots.to_string())
    }

    /// How long a worker may be silent before others take its tasks over, 1 s to 1 h. Default 15 s.
    pub fn lease(self, lease: Duration) -> Self {
        self.set("workers.lease", Span(lease).to_string())
    }

    /// How long one attempt may take unless its task says otherwise. Default 5 min.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.set("defaults.timeout", Span(timeout).to_string())
    }

    /// Any setting by its key, written as in `omniq.toml`; `docs/configuration.md` lists them.
    pub fn set(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.sources = self.sources.flag(key, key, value.as_ref());
        self
    }

    /// The settings as they are so far.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn config(&self) -> Result<Config> {
        Ok(Config::load(&self.sources)?)
    }
}

impl QueueBuilder<Queue> {
    /// Opens the queue.
    ///
    /// # Errors
    /// A setting is wrong, or the stores cannot be opened.
    pub async fn open(self) -> Result<Queue> {
        Queue::open(self.config()?).await
    }
}
