//! Every setting: what it is called, where its value comes from, what may be written, and what it is otherwise.
//!
//! Flags win over `OMNIQ_*` variables, those over `omniq.toml`, that over the defaults; an empty value counts as none.
//! Each value remembers where it came from. All mistakes are reported at once, before anything else is done.
//!
//! The table in `setting.rs` is the only list of settings; messages, help and `docs/configuration.md` are made of it.
//! What the values do is up to those who read them. What this version does not have yet is accepted here, and answered
//! by [`Config::unsupported`].

mod error;
mod file;
mod notice;
mod origin;
pub mod quantity;
mod reader;
mod setting;
mod show;
mod source;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod url;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use error::{Error, Problem};
pub use notice::{Notice, Severity};
pub use origin::Origin;
pub use setting::{
    Cache, Dashboard, Data, Defaults, Durability, Keeping, Limits, Log, Objects, Pool, Retention,
    Retry, Workers,
};
pub use source::{FILE_NAME, Sources};
pub use storage::Storage;
pub use table::{ROWS, Row, Shown};
pub use url::{StorageKind, StorageUrl};

use reader::Reader;

/// The settings of a process.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where this installation keeps things on disk.
    pub data: Data,
    /// What is logged, and how.
    pub log: Log,
    /// Where tasks live: `OMNIQ_TASK_STORAGE_URL`, `OMNIQ_TASK_STORAGE_TYPE`. Default: `omniq.db` in the data folder.
    pub tasks: Storage,
    /// Where results live: `OMNIQ_RESULT_STORAGE_URL`, `OMNIQ_RESULT_STORAGE_TYPE`. Default: where the tasks are.
    pub results: Storage,
    /// Where events live: `OMNIQ_EVENT_STORAGE_URL`, `OMNIQ_EVENT_STORAGE_TYPE`. Default: an SQLite file beside that of
    /// the tasks (`omniq-events.db` beside `omniq.db`); of the kind `memory`, which keeps none, where
    /// the tasks are.
    pub events: Storage,
    /// Where large bytes live.
    pub objects: Objects,
    /// How storages keep what they are given.
    pub storage: Keeping,
    /// What a worker process is made of.
    pub workers: Workers,
    /// What holds for a task that says nothing else.
    pub defaults: Defaults,
    /// How often and when a failed task runs again.
    pub retry: Retry,
    /// How long finished work is kept.
    pub retention: Retention,
    /// What one attempt may use.
    pub limits: Limits,
    /// Where compiled code is kept.
    pub cache: Cache,
    /// The dashboard.
    pub dashboard: Dashboard,
    /// What a person should know about where the settings came from, such as a variable that nobody reads.
    pub warnings: Vec<Notice>,
    origins: BTreeMap<&'static str, Origin>,
}

/// What everything is when nobody says anything; no folder for compiled code, since no home is known.
impl Default for Config {
    fn default() -> Self {
        Self::load(&Sources::new()).expect("a test loads the defaults")
    }
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once: each mistake with the setting, where its value came from and what is
    /// allowed.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut reader = Reader::new(sources, None);
        let data = Data::read(&mut reader);
        let storages = storage::resolve(&mut reader, &data.folder);
        let mut config = Self {
            data,
            log: Log::read(&mut reader),
            tasks: storages.tasks,
            results: storages.results,
            events: storages.events,
            objects: Objects::read(&mut reader),
            storage: Keeping::read(&mut reader),
            workers: Workers::read(&mut reader),
            defaults: Defaults::read(&mut reader),
            retry: Retry::read(&mut reader),
            retention: Retention::read(&mut reader),
            limits: Limits::read(&mut reader),
            cache: Cache::read(&mut reader),
            dashboard: Dashboard::read(&mut reader),
            warnings: notice::unknown_variables(sources),
            origins: BTreeMap::new(),
        };
        config.check_pairs(&mut reader);
        if let (None, Some((folder, variable))) = (&config.cache.folder, sources.user_cache()) {
            config.cache.folder = Some(folder);
            reader.origins.insert("cache.folder", Origin::Follows(variable));
        }
        config.origins = reader.origins;
        Error::unless_empty(reader.problems)?;
        Ok(config)
    }

    /// Refuses values that are good alone and contradict each other.
    fn check_pairs(&self, reader: &mut Reader<'_>) {
        let Retry { delay, max_delay, .. } = self.retry;
        if delay > max_delay {
            let name = |key| reader.origin(key).name(table::known(key));
            let text = format!(
                "{} is {}, which is more than {}, {}",
                name("retry.delay"),
                quantity::Span(delay),
                name("retry.max_delay"),
                quantity::Span(max_delay)
            );
            reader.problem("retry.delay", text);
        }
        if let Some(url) = self.objects.url.as_ref()
            && url.kind().is_none()
        {
            let name = reader.origin("objects.url").name(table::known("objects.url"));
            let text = format!(
                "{name} cannot be `{url}`; write `file:///path`, `s3://bucket`, `az://…`, `gs://…`, `memory://`, or where tasks may live"
            );
            reader.problem("objects.url", text);
        }
    }

    /// Where the value of a setting came from; a key that does not exist has its default.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

impl Log {
    /// Reads only what is said about the log, for a command that needs no other setting and for a process that reads
    /// it again. Mistakes elsewhere are no concern of it.
    ///
    /// # Errors
    /// Everything that is wrong with it, or a file that cannot be read or is not TOML.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        let mut reader = Reader::new(sources, Some("log"));
        let log = Self::read(&mut reader);
        Error::unless_empty(reader.problems)?;
        Ok(log)
    }
}

impl Workers {
    /// How often a worker reports that it lives: three times in the time of a lease, so that two reports may be lost.
    pub fn heartbeat(&self) -> Duration {
        self.lease / 3
    }

    /// The most tasks that run at once on a machine with so many processors.
    pub fn slots(&self, processors: NonZeroU32) -> NonZeroU32 {
        self.max.unwrap_or(processors.saturating_mul(NonZeroU32::new(32).expect("it is not zero")))
    }

    /// The threads of the pool `thread` on a machine with so many processors.
    pub fn thread_count(&self, processors: NonZeroU32) -> NonZeroU32 {
        self.threads.unwrap_or(processors)
    }
}

impl Cache {
    /// The folder of compiled code; `None` where none is to be kept.
    pub fn code_folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("code"))
    }
}
