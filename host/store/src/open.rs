//! From a URL to a store.
//!
//! A URL's scheme names the backend. The rest of it may hold passwords, so no error here repeats more than the scheme.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use crate::guard::{Guard, Guarded, Policy};
use crate::memory::{MemoryEvents, MemoryModules, MemoryResults, MemoryTasks};
use crate::{Clock, Error, EventStore, ModuleStore, Result, ResultStore, SystemClock, TaskStore};

/// What survives what, once a call has answered `Ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The death of the machine: it is on disk. The default.
    #[default]
    Disk,
    /// The death of the process: the operating system has it. A power cut may lose the latest calls, never damage what
    /// is older.
    Os,
    /// Nothing is promised.
    None,
}

/// How stores are opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time of backends without a server. Default: the host's clock.
    pub clock: Arc<dyn Clock>,
    /// What survives what. Default: [`Durability::Disk`]. Backends that hold everything in memory ignore it.
    pub durability: Durability,
    /// Bytes of free disk space below which backends in files accept no new tasks, so that running ones can still end.
    /// Default: 64 MiB.
    pub reserve: u64,
    /// How long a call may take; those over many tasks may take longer (see [`guard`](crate::guard)). Default: 10 s.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            durability: Durability::default(),
            reserve: 64 << 20,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Opens the task store of `url`: `memory:`, `memory:NAME`, and what this build's features add, such as `sqlite:PATH`,
/// `file:PATH` or `s3://BUCKET/PREFIX`.
///
/// A store in memory is shared by all in the process that open the same name; it lives as long as one of them holds it,
/// and keeps the clock it was opened with first.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) for a URL that this build has no backend for; otherwise what the backend says.
pub async fn open_tasks(url: &str, options: &Options) -> Result<Arc<dyn TaskStore>> {
    let store = tasks_at(url, options).await?;
    let guard = guard("tasks", store.caps().name, url, options);
    Ok(Arc::new(Guarded::<dyn TaskStore>::new(guard, store)))
}

async fn tasks_at(url: &str, options: &Options) -> Result<Arc<dyn TaskStore>> {
    match place(url)? {
        Place::Memory(name) => {
            static OPEN: Registry<MemoryTasks> = LazyLock::new(Mutex::default);
            let store = shared(&OPEN, name, || MemoryTasks::new(Arc::clone(&options.clock)));
            Ok(store)
        }
        #[cfg(feature = "sqlite")]
        Place::Sqlite(rest) => {
            let config = crate::sqlite::Config::of_url(rest, options)?;
            Ok(Arc::new(crate::sqlite::SqliteTasks::shared(config).await?))
        }
        #[cfg(feature = "object")]
        Place::Objects => {
            let root = crate::object::reach(url, options).await?;
            let config = crate::object::Config::with(root, options);
            Ok(Arc::new(crate::object::ObjectTasks::shared(config).await?))
        }
        #[cfg(feature = "nats")]
        Place::Nats => {
            let config = crate::nats::Config::of_url(url, options)?;
            Ok(Arc::new(crate::nats::NatsTasks::shared(config).await?))
        }
        #[cfg(feature = "redis")]
        Place::Redis => {
            let config = crate::redis::Config::of_url(url, options)?;
            Ok(Arc::new(crate::redis::RedisTasks::shared(config).await?))
        }
        #[cfg(feature = "postgres")]
        Place::Postgres => {
            let config = crate::postgres::Config::of_url(url, options)?;
            Ok(Arc::new(crate::postgres::PostgresTasks::shared(config).await?))
        }
    }
}

/// Opens the result store of `url`, as [`open_tasks`] does.
///
/// # Errors
/// As [`open_tasks`].
pub async fn open_results(url: &str, options: &Options) -> Result<Arc<dyn ResultStore>> {
    let store = results_at(url, options).await?;
    let guard = guard("results", store.name(), url, options);
    Ok(Arc::new(Guarded::<dyn ResultStore>::new(guard, store)))
}

async fn results_at(url: &str, options: &Options) -> Result<Arc<dyn ResultStore>> {
    match place(url)? {
        Place::Memory(name) => {
            static OPEN: Registry<MemoryResults> = LazyLock::new(Mutex::default);
            let store = shared(&OPEN, name, || MemoryResults::new(Arc::clone(&options.clock)));
            Ok(store)
        }
        #[cfg(feature = "sqlite")]
        Place::Sqlite(rest) => {
            let config = crate::sqlite::Config::of_url(rest, options)?;
            Ok(Arc::new(crate::sqlite::SqliteResults::shared(config).await?))
        }
        #[cfg(feature = "object")]
        Place::Objects => {
            let root = crate::object::reach(url, options).await?;
            Ok(Arc::new(crate::object::ObjectResults::new(root, Arc::clone(&options.clock))))
        }
        #[cfg(feature = "nats")]
        Place::Nats => {
            let config = crate::nats::Config::of_url(url, options)?;
            Ok(Arc::new(crate::nats::NatsResults::shared(config).await?))
        }
        #[cfg(feature = "redis")]
        Place::Redis => {
            let config = crate::redis::Config::of_url(url, options)?;
            Ok(Arc::new(crate::redis::RedisResults::shared(config).await?))
        }
        #[cfg(feature = "postgres")]
        Place::Postgres => {
            let config = crate::postgres::Config::of_url(url, options)?;
            Ok(Arc::new(crate::postgres::PostgresResults::shared(config).await?))
        }
    }
}

/// Opens the event store of `url`, as [`open_tasks`] does.
///
/// # Errors
/// As [`open_tasks`].
pub async fn open_events(url: &str, options: &Options) -> Result<Arc<dyn EventStore>> {
    let store = events_at(url, options).await?;
    let guard = guard("events", store.name(), url, options);
    Ok(Arc::new(Guarded::<dyn EventStore>::new(guard, store)))
}

#[cfg_attr(
    not(any(feature = "sqlite", feature = "object", feature = "postgres")),
    expect(unused_variables, reason = "memory needs none of them")
)]
async fn events_at(url: &str, options: &Options) -> Result<Arc<dyn EventStore>> {
    match place(url)? {
        Place::Memory(name) => {
            static OPEN: Registry<MemoryEvents> = LazyLock::new(Mutex::default);
            let store = shared(&OPEN, name, MemoryEvents::new);
            Ok(store)
        }
        #[cfg(feature = "sqlite")]
        Place::Sqlite(rest) => {
            let config = crate::sqlite::Config::of_url(rest, options)?;
            Ok(Arc::new(crate::sqlite::SqliteEvents::shared(config).await?))
        }
        #[cfg(feature = "object")]
        Place::Objects => {
            let root = crate::object::reach(url, options).await?;
            Ok(Arc::new(crate::object::ObjectEvents::shared(root)))
        }
        #[cfg(feature = "postgres")]
        Place::Postgres => {
            let config = crate::postgres::Config::of_url(url, options)?;
            Ok(Arc::new(crate::postgres::PostgresEvents::shared(config).await?))
        }
        #[cfg(feature = "nats")]
        Place::Nats => Err(Error::Config(
            "NATS keeps no events, since they are asked for in SQL; keep them in `sqlite:PATH` or PostgreSQL".into(),
        )),
        #[cfg(feature = "redis")]
        Place::Redis => Err(Error::Config(
            "Redis keeps no events, since they are asked for in SQL; keep them in `sqlite:PATH` or PostgreSQL".into(),
        )),
    }
}

/// Opens the module store of `url`, as [`open_tasks`] does.
///
/// # Errors
/// As [`open_tasks`].
pub async fn open_modules(url: &str, options: &Options) -> Result<Arc<dyn ModuleStore>> {
    let store = modules_at(url, options).await?;
    let guard = guard("modules", store.name(), url, options);
    Ok(Arc::new(Guarded::<dyn ModuleStore>::new(guard, store)))
}

#[cfg_attr(
    not(any(
        feature = "sqlite",
        feature = "object",
        feature = "nats",
        feature = "redis",
        feature = "postgres"
    )),
    expect(unused_variables, reason = "memory needs none of them")
)]
async fn modules_at(url: &str, options: &Options) -> Result<Arc<dyn ModuleStore>> {
    match place(url)? {
        Place::Memory(name) => {
            static OPEN: Registry<MemoryModules> = LazyLock::new(Mutex::default);
            let store = shared(&OPEN, name, MemoryModules::new);
            Ok(store)
        }
        #[cfg(feature = "sqlite")]
        Place::Sqlite(rest) => {
            let config = crate::sqlite::Config::of_url(rest, options)?;
            Ok(Arc::new(crate::sqlite::SqliteModules::shared(config).await?))
        }
        #[cfg(feature = "object")]
        Place::Objects => {
            let root = crate::object::reach(url, options).await?;
            Ok(Arc::new(crate::object::ObjectModules::new(root)))
        }
        #[cfg(feature = "nats")]
        Place::Nats => {
            let config = crate::nats::Config::of_url(url, options)?;
            Ok(Arc::new(crate::nats::NatsModules::shared(config).await?))
        }
        #[cfg(feature = "redis")]
        Place::Redis => {
            let config = crate::redis::Config::of_url(url, options)?;
            Ok(Arc::new(crate::redis::RedisModules::shared(config).await?))
        }
        #[cfg(feature = "postgres")]
        Place::Postgres => {
            let config = crate::postgres::Config::of_url(url, options)?;
            Ok(Arc::new(crate::postgres::PostgresModules::shared(config).await?))
        }
    }
}

/// What stands in front of a store.
fn guard(role: &'static str, backend: &'static str, url: &str, options: &Options) -> Arc<Guard> {
    let policy = Policy { timeout: options.timeout, ..Policy::default() };
    Guard::of(role, backend, url, policy)
}

/// Where a URL points to, as far as this build can go there.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Memory(&'a str),
    #[cfg(feature = "sqlite")]
    Sqlite(&'a str),
    #[cfg(feature = "object")]
    Objects,
    #[cfg(feature = "nats")]
    Nats,
    #[cfg(feature = "redis")]
    Redis,
    #[cfg(feature = "postgres")]
    Postgres,
}

/// Backends beside memory: what people call each, its schemes, and the feature that adds it.
const BACKENDS: [(&str, &[&str], &str); 6] = [
    ("SQLite", &["sqlite"], "sqlite"),
    ("file", &["file"], "object"),
    ("object store", &["s3", "az", "gs"], "cloud"),
    ("PostgreSQL", &["postgres", "postgresql"], "postgres"),
    ("Redis", &["redis", "rediss", "valkey", "valkeys"], "redis"),
    ("NATS", &["nats", "nats+tls"], "nats"),
];

/// What this build can open.
fn here() -> String {
    let all = [
        (cfg!(feature = "sqlite"), "`sqlite:PATH`"),
        (cfg!(feature = "object"), "`file:PATH`"),
        (cfg!(feature = "cloud"), "`s3://BUCKET`, `az://CONTAINER`, `gs://BUCKET`"),
        (cfg!(feature = "nats"), "`nats://HOST`"),
        (cfg!(feature = "redis"), "`redis://HOST`"),
        (cfg!(feature = "postgres"), "`postgres://HOST/DATABASE`"),
    ];
    let here: Vec<_> = all.iter().filter(|(is_here, _)| *is_here).map(|(_, form)| *form).collect();
    let comma = if here.is_empty() { "" } else { ", " };
    format!("{}{comma}`memory:` and `memory:NAME`", here.join(", "))
}

fn place(url: &str) -> Result<Place<'_>> {
    let Some((scheme, rest)) = url.split_once(':') else { return Err(no_scheme(url)) };
    match scheme {
        "memory" => Ok(Place::Memory(rest)),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Place::Sqlite(rest)),
        #[cfg(feature = "object")]
        "file" => Ok(Place::Objects),
        #[cfg(feature = "cloud")]
        "s3" | "az" | "gs" => Ok(Place::Objects),
        #[cfg(feature = "nats")]
        "nats" | "nats+tls" => Ok(Place::Nats),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "valkey" | "valkeys" => Ok(Place::Redis),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Place::Postgres),
        _ => Err(no_backend(scheme)),
    }
}

fn no_backend(scheme: &str) -> Error {
    let backend = BACKENDS.iter().find(|(_, schemes, _)| schemes.contains(&scheme));
    let here = here();
    Error::Config(match backend {
        Some((backend, _, feature)) => format!(
            "this build leaves out the {backend} backend; it has {here}, and the feature `{feature}` adds it"
        ),
        None => format!("`{}:` is no kind of store; there are {here}", shown(scheme)),
    })
}

fn no_scheme(url: &str) -> Error {
    Error::Config(format!(
        "`{}` does not say which kind of store it is; there are {}",
        shown(url),
        here()
    ))
}

/// What an error may repeat of a text that was taken for a URL: not what may be a password.
fn shown(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "+-./_".contains(c);
    let shown: String = text.chars().take_while(|c| harmless(*c)).take(64).collect();
    // Whatever comes before `@` is a user's name or password.
    match (text.contains('@'), shown.len() < text.len()) {
        (true, _) => "…".to_owned(),
        (false, true) => shown + "…",
        (false, false) => shown,
    }
}

type Registry<T> = LazyLock<Mutex<HashMap<String, Weak<T>>>>;

/// The store of that name that is open in this process, or a new one.
fn shared<T>(open: &Registry<T>, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
    let mut open = open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(store) = open.get(name).and_then(Weak::upgrade) {
        return store;
    }
    open.retain(|_, store| store.strong_count() > 0);
    let store = Arc::new(make());
    open.insert(name.to_owned(), Arc::downgrade(&store));
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Filter};
    use omniq_model::{Digest, ModuleRef, Payload, State, Task, TaskId};

    fn task() -> Task {
        let module = ModuleRef {
            digest: Digest::from_sha256([7; 32]),
            name: "m".parse().unwrap(),
            version: "1".parse().unwrap(),
            unknown: Default::default(),
        };
        Task::new(TaskId::derived(&[b"t"]), module, "f", Payload::cbor([0xa0]))
    }

    #[tokio::test]
    async fn a_memory_store_is_shared_by_its_name_while_it_is_held() {
        let options = Options::default();
        let first = open_tasks("memory:open-shared", &options).await.unwrap();
        first.enqueue(vec![task()]).await.unwrap();
        for (url, there) in [("memory:open-shared", 1), ("memory:open-other", 0), ("memory:", 0)] {
            let store = open_tasks(url, &options).await.unwrap();
            let counts = store.count(&Filter::default()).await.unwrap();
            assert_eq!(counts.get(&State::Ready).copied().unwrap_or(0), there, "{url}");
        }
        drop(first);
        let again = open_tasks("memory:open-shared", &options).await.unwrap();
        assert!(again.is_idle().await.unwrap());
    }

    #[tokio::test]
    async fn a_guard_stands_in_front_and_the_backend_is_found_behind_it() {
        let store = open_tasks("memory:open-guarded", &Options::default()).await.unwrap();
        assert!(crate::backend::<MemoryTasks>(&*store).is_some());
        assert!(crate::backend::<Guarded<dyn TaskStore>>(&*store).is_some());
        store.now().await.unwrap();
        let states = crate::guard::states();
        assert!(states.iter().any(|state| state.role == "tasks" && state.answered > 0));
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_said_without_its_password() {
        for (url, part) in [
            #[cfg(not(feature = "postgres"))]
            ("postgres://user:secret@host/db", "leaves out the PostgreSQL backend"),
            #[cfg(not(feature = "redis"))]
            ("redis://:secret@host", "leaves out the Redis backend"),
            #[cfg(not(feature = "nats"))]
            ("nats://secret@host", "leaves out the NATS backend"),
            #[cfg(not(feature = "sqlite"))]
            ("sqlite:secret.db", "leaves out the SQLite backend"),
            #[cfg(not(feature = "object"))]
            ("file:///secret", "leaves out the file backend"),
            #[cfg(not(feature = "cloud"))]
            ("s3://secret", "leaves out the object store backend"),
            ("mysql://user:secret@host", "`mysql:` is no kind of store"),
            ("secret@host:1", "`…:` is no kind of store"),
            ("omniq.db", "`omniq.db` does not say which kind of store it is"),
            ("token=secret", "`token…` does not say"),
            ("user@secret", "`…` does not say"),
            ("", "`` does not say"),
        ] {
            let options = Options::default();
            let errors = [
                open_tasks(url, &options).await.unwrap_err(),
                open_results(url, &options).await.unwrap_err(),
                open_events(url, &options).await.unwrap_err(),
                open_modules(url, &options).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Config, "{url}");
                let message = error.to_string();
                assert!(message.contains(part), "{url}: {message}");
                assert!(message.contains("memory:"), "{url}: {message}");
                assert!(!message.contains("secret"), "{url}: {message}");
            }
        }
    }
}
