//! The settings themselves, section by section: what each is for, its type, its key and variables, default and range.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use super::quantity::{Bytes, Count};
use super::table::settings;
use super::url::{StorageKind, StorageUrl};
use super::value::choice;
use crate::logging::{ComponentLevels, Level, LogFormat};

choice! {
    /// What kind of pool runs a task that does not ask for one.
    pub enum Pool {
        /// Tokio tasks, for guests that mostly wait.
        Async = "async",
        /// Operating system threads, for guests that compute.
        Thread = "thread",
        /// Child processes, a second wall around hostile guests.
        Process = "process",
        /// Very many guests that mostly sleep.
        Green = "green" or "gevent",
    }
    forms "`async`, `thread`, `process` or `green` (alias `gevent`)"
}

impl From<Pool> for omniq_model::Pool {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Async => Self::Async,
            Pool::Thread => Self::Thread,
            Pool::Process => Self::Process,
            Pool::Green => Self::Green,
        }
    }
}

choice! {
    /// What an answered write has survived.
    pub enum Durability {
        /// A power failure: it is on the disk.
        Disk = "disk",
        /// A crash of the process, not one of the machine: it is with the operating system.
        Os = "os",
        /// Nothing in particular.
        None = "none",
    }
    forms "`disk`, `os` or `none`"
}

impl From<Durability> for omniq_store::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Disk => Self::Disk,
            Durability::Os => Self::Os,
            Durability::None => Self::None,
        }
    }
}

settings! {
    /// Where this installation keeps things on disk.
    pub struct Data {
        /// The folder of what has no place of its own. The default storages lie in it.
        folder: PathBuf = "data.folder", ["OMNIQ_DATA_DIR"], default ".omniq";
    }

    /// What is logged, and how.
    pub struct Log {
        /// The level of all components that have none of their own.
        level: Option<Level> = "log.level", ["OMNIQ_LOG_LEVEL"],
            default "" or "INFO in `worker` and `dev`, WARNING in all other commands";
        /// Whether nothing is logged at all, whatever the levels say.
        disable: bool = "log.disable", ["OMNIQ_DISABLE_LOGGING"], default "false";
        /// Levels of single components. In the file it is a table, `[log.components]`.
        components: ComponentLevels = "log.components", ["OMNIQ_COMPONENT_LOG_LEVELS"], default "{}";
        /// How a line of the log is written to stderr.
        format: LogFormat = "log.format", ["OMNIQ_LOG_FORMAT"], default "text";
    }

    /// Where tasks live, as it was written.
    pub(super) struct GivenTasks {
        /// What kind of storage tasks live in. Not needed where the URL says it.
        kind: Option<StorageKind> = "tasks.type", ["OMNIQ_TASK_STORAGE_TYPE"],
            default "" or "what the scheme of the URL says";
        /// Where tasks live.
        url: Option<StorageUrl> = "tasks.url", ["OMNIQ_TASK_STORAGE_URL"],
            default "" or "`sqlite:` and `omniq.db` in the data folder";
    }

    /// Where results live, as it was written.
    pub(super) struct GivenResults {
        /// What kind of storage results live in.
        kind: Option<StorageKind> = "results.type", ["OMNIQ_RESULT_STORAGE_TYPE"], default "" or "that of the tasks";
        /// Where results live.
        url: Option<StorageUrl> = "results.url", ["OMNIQ_RESULT_STORAGE_URL"], default "" or "where the tasks are";
    }

    /// Where events live, as it was written.
    pub(super) struct GivenEvents {
        /// What kind of storage events live in: `sqlite`, `postgres` or `file`.
        kind: Option<StorageKind> = "events.type", ["OMNIQ_EVENT_STORAGE_TYPE"],
            default "" or "what the scheme of the URL says";
        /// Where events live.
        url: Option<StorageUrl> = "events.url", ["OMNIQ_EVENT_STORAGE_URL"],
            default "" or "an SQLite file beside that of the tasks; none are kept where tasks are in memory";
    }

    /// Where large bytes live: modules, and what does not fit into a record.
    pub struct Objects {
        /// Where modules live, such as `file:///path`, `s3://bucket/prefix`, `az://…`, `gs://…` or `memory://`.
        url: Option<StorageUrl> = "objects.url", ["OMNIQ_OBSTORE_URI"], default "" or "beside the tasks";
    }

    /// How storages keep what they are given.
    pub struct Keeping {
        /// What an answered write has survived.
        durability: Durability = "storage.durability", ["OMNIQ_DURABILITY"], default "disk";
        /// Results up to this size lie inside the record of their task, larger ones beside it.
        inline_bytes: Bytes = "storage.inline_bytes", ["OMNIQ_RESULT_INLINE_SIZE"],
            default "8KiB", from "0" to "1MiB";
        /// How long a storage may take to answer; bulks and counts may take longer. What took longer is repeated.
        deadline: Duration = "storage.deadline", ["OMNIQ_STORAGE_DEADLINE"], default "10s", from "100ms" to "10m";
    }

    /// What a worker process is made of.
    pub struct Workers {
        /// The pool of tasks that do not ask for one.
        pool: Pool = "workers.pool", ["OMNIQ_DEFAULT_WORKER"], default "async";
        /// The most tasks that run at once, all pools together.
        max: Option<NonZeroU32> = "workers.max", ["OMNIQ_MAX_WORKERS"],
            default "" or "32 for each processor", from "1" to "65536";
        /// Threads of the pool `thread`.
        threads: Option<NonZeroU32> = "workers.threads", ["OMNIQ_THREAD_WORKERS"],
            default "" or "one for each processor", from "1" to "4096";
        /// Child processes of the pool `process`.
        processes: Option<NonZeroU32> = "workers.processes", ["OMNIQ_PROCESS_WORKERS"],
            default "" or "one for each processor", from "1" to "4096";
        /// Guests of the pool `green`.
        green: Option<NonZeroU32> = "workers.green", ["OMNIQ_GEVENT_WORKERS", "OMNIQ_GREEN_WORKERS"],
            default "" or "1024 for each processor", from "1" to "1048576";
        /// How long a worker may be silent before others take its tasks over. It reports three times as often.
        lease: Duration = "workers.lease", ["OMNIQ_LEASE_TIME"], default "15s", from "1s" to "1h";
        /// How long running tasks may go on after the process was asked to end; what still runs then is put back.
        shutdown_grace: Duration = "workers.shutdown_grace", ["OMNIQ_SHUTDOWN_GRACE"],
            default "30s", from "0s" to "1d";
        /// The most tasks that are claimed in one go.
        batch: NonZeroU32 = "workers.batch", ["OMNIQ_CLAIM_BATCH"], default "500", from "1" to "1000";
        /// Bytes of arguments a worker holds at most, those of tasks fetched in advance included.
        claim_bytes: Bytes = "workers.claim_bytes", ["OMNIQ_CLAIM_BYTES"], default "64MiB", from "1MiB" to "64GiB";
    }

    /// What holds for a task that says nothing else.
    pub struct Defaults {
        /// How long one attempt may take.
        timeout: Duration = "defaults.timeout", ["OMNIQ_TASK_TIMEOUT"], default "5m", from "1ms" to "30d";
        /// How long a task may wait for its first attempt before it expires.
        ttl: Option<Duration> = "defaults.ttl", ["OMNIQ_TASK_TTL"], default "" or "it waits forever",
            from "1ms" to "3650d";
    }

    /// How often and when a failed task runs again, if it says nothing else.
    pub struct Retry {
        /// Attempts in all, the first one included.
        attempts: NonZeroU32 = "retry.attempts", ["OMNIQ_RETRY_ATTEMPTS"], default "3", from "1" to "1000";
        /// The longest pause before the second attempt; it doubles with each one after, and chance shortens it.
        delay: Duration = "retry.delay", ["OMNIQ_RETRY_DELAY"], default "1s", from "0s" to "1d";
        /// Where the doubling ends.
        max_delay: Duration = "retry.max_delay", ["OMNIQ_RETRY_MAX_DELAY"], default "5m", from "0s" to "30d";
        /// How often a task's worker may die under it before the task is given up.
        crashes: NonZeroU32 = "retry.crashes", ["OMNIQ_CRASH_BUDGET"], default "3", from "1" to "1000";
    }

    /// How long finished work is kept.
    pub struct Retention {
        /// How long a task that has ended is kept, with its result; a failed one, too.
        results: Duration = "retention.results", ["OMNIQ_RESULT_TTL"], default "1d", from "0s" to "3650d";
        /// How long the events of tasks are kept.
        history: Duration = "retention.history", ["OMNIQ_HISTORY_TTL"], default "7d", from "0s" to "3650d";
    }

    /// What one attempt may use, if the task says nothing else. The other limits are fixed.
    pub struct Limits {
        /// Units of fuel, about one for each instruction.
        fuel: Count = "limits.fuel", ["OMNIQ_LIMIT_FUEL"], default "20G", from "1" to "1000T";
        /// Bytes of memory.
        memory: Bytes = "limits.memory", ["OMNIQ_LIMIT_MEMORY"], default "256MiB", from "64KiB" to "4GiB";
        /// Processor time.
        cpu: Duration = "limits.cpu", ["OMNIQ_LIMIT_CPU"], default "1m", from "1ms" to "30d";
    }

    /// Where compiled code is kept.
    pub struct Cache {
        /// The folder; compiled code lies in `code` below it.
        folder: Option<PathBuf> = "cache.folder", ["OMNIQ_CACHE_DIR"],
            default "" or "`omniq` in `$XDG_CACHE_HOME`, else in `~/.cache`; nothing is kept without a home";
        /// Bytes of compiled code that are kept.
        size: Bytes = "cache.size", ["OMNIQ_CACHE_SIZE"], default "1GiB", from "1MiB" to "1TiB";
    }

    /// The dashboard.
    pub struct Dashboard {
        /// Whether it is served.
        enabled: bool = "dashboard.enabled", ["OMNIQ_DASHBOARD_ENABLED"], default "false";
        /// Its port on the loopback address.
        port: NonZeroU16 = "dashboard.port", ["OMNIQ_DASHBOARD_PORT"], default "8080";
    }
}
