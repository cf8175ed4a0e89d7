//! How a SQLite file is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::{Clock, Durability, Options, SystemClock};

/// How a SQLite file is opened.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the file is. It is created, with the folders above it, if there is none.
    pub path: PathBuf,
    /// What an answer has survived. Default: a loss of power.
    pub durability: Durability,
    /// What decides every deadline. Default: the host's clock.
    pub clock: Arc<dyn Clock>,
    /// Bytes of free disk space below which no new tasks are accepted, so that running ones can still end. Default 64 MiB.
    pub reserve: u64,
    /// How long a call waits for another process that is writing. Default 10 s.
    pub patience: Duration,
}

impl Config {
    /// The file at `path`, everything else by default.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            durability: Durability::default(),
            clock: Arc::new(SystemClock::default()),
            reserve: 64 << 20,
            patience: Duration::from_secs(10),
        }
    }

    /// The file that a URL names after its scheme: `PATH` or `//PATH`.
    pub(crate) fn of_url(rest: &str, options: &Options) -> crate::Result<Self> {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if path.is_empty() || path == ":memory:" {
            let reason = "`sqlite:` needs the path of a file, such as `sqlite:omniq.db`; for tasks in memory use `memory:`";
            return Err(crate::Error::Config(reason.into()));
        }
        Ok(Self {
            durability: options.durability,
            clock: Arc::clone(&options.clock),
            reserve: options.reserve,
            patience: options.timeout,
            ..Self::new(path)
        })
    }

    /// For the one connection that writes.
    pub(super) fn writer(&self) -> SqliteConnectOptions {
        let synchronous = match self.durability {
            Durability::Disk => SqliteSynchronous::Full,
            Durability::Os => SqliteSynchronous::Normal,
            Durability::None => SqliteSynchronous::Off,
        };
        // It counts for a new file only, and SQLite would write it down at every start: then nobody could look into a file on
        // a full disk.
        let is_new = std::fs::metadata(&self.path).map_or(true, |file| file.len() == 0);
        let options = self.common().create_if_missing(true);
        let options =
            if is_new { options.auto_vacuum(SqliteAutoVacuum::Incremental) } else { options };
        options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .pragma("wal_autocheckpoint", "4000")
            // No larger than a commit needs: whenever SQLite has put the pages of a full node in order it looks through the
            // whole cache at the next commit, which took a seventh of the writer's time with 64 MiB.
            .pragma("cache_size", "-4096")
            .thread_name(|_| "omniq-sqlite-write".to_owned())
    }

    /// For connections that only read.
    pub(super) fn reader(&self) -> SqliteConnectOptions {
        self.common()
            .pragma("query_only", "on")
            .pragma("cache_size", "-16384")
            .thread_name(|_| "omniq-sqlite-read".to_owned())
    }

    fn common(&self) -> SqliteConnectOptions {
        // The busy handler of SQLite is unfair to those that wait long: it only bridges moments, the writer does the rest.
        SqliteConnectOptions::new()
            .filename(&self.path)
            .foreign_keys(false)
            .busy_timeout(Duration::from_millis(50))
            .statement_cache_capacity(256)
            .row_buffer_size(1024)
            .pragma("temp_store", "memory")
    }
}
