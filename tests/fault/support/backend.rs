//! Where a queue of the tests is kept: the same tests run over each backend, on real servers.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use omniq_services::{Kind, Server};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file of SQLite.
    Sqlite,
    /// A folder with a log, of which one process at a time is the owner.
    File,
    /// A schema in a PostgreSQL database.
    Postgres,
    /// Keys of a Redis server.
    Redis,
    /// The same on a Valkey server.
    Valkey,
    /// Streams of a NATS server.
    Nats,
    /// A prefix in a bucket of an S3 server, of which one process at a time is the owner.
    S3,
}

impl Backend {
    /// The server it needs.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::Sqlite | Self::File => None,
            Self::Postgres => Some(Kind::Postgres),
            Self::Redis => Some(Kind::Redis),
            Self::Valkey => Some(Kind::Valkey),
            Self::Nats => Some(Kind::Nats),
            Self::S3 => Some(Kind::S3),
        }
    }

    /// The server that this process has of that kind, for tests that leave it alone.
    pub fn shared(self) -> Option<&'static Server> {
        match self.kind()? {
            Kind::Postgres => Some(omniq_services::postgres()),
            Kind::Redis => Some(omniq_services::redis()),
            Kind::Valkey => Some(omniq_services::valkey()),
            Kind::Nats => Some(omniq_services::nats()),
            Kind::S3 => Some(omniq_services::s3()),
            Kind::Azure => Some(omniq_services::azure()),
        }
    }

    /// The URL of the store `name`: at the server with the URL `server`, or in `folder`.
    pub fn url(self, server: &str, folder: &Path, name: &str) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", folder.join("omniq.db").display()),
            Self::File => format!("file:{}", folder.join("omniq-files").display()),
            Self::Postgres => format!("{server}?schema={name}"),
            Self::Redis | Self::Valkey => format!("{server}?name={name}"),
            Self::Nats => format!("{server}/{name}?sync=always"),
            // A dead owner keeps others waiting for its lease: not as long as it would by itself.
            Self::S3 => server.replacen('?', &format!("/{name}?lease=3&"), 1),
        }
    }

    /// Whether one process has the tasks, and all others ask it: if a test looks on, it may be the test's.
    pub fn has_owner(self) -> bool {
        matches!(self, Self::File | Self::S3)
    }

    /// Whether it keeps events, too; elsewhere they are in a file of SQLite.
    pub fn has_events(self) -> bool {
        matches!(self, Self::Postgres | Self::File | Self::S3)
    }

    /// The name of a failpoint: `store.CALL.before` and `store.CALL.after` are around what makes a call durable, and have
    /// other names in each backend.
    pub fn point(self, name: &str) -> String {
        let Some(call) = name.strip_prefix("store.") else { return name.to_owned() };
        match self {
            Self::Sqlite => format!("sqlite.{call}_commit"),
            Self::Postgres => format!("postgres.{call}_commit"),
            Self::Redis | Self::Valkey => format!("redis.{call}_call"),
            Self::Nats => format!("nats.{call}_publish"),
            Self::File | Self::S3 => format!("log.{call}_append"),
        }
    }
}

/// A name that no other store of this machine has.
pub fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("fault_{}_{count}", std::process::id())
}
