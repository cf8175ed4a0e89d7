//! A folder of its own for each test, a queue on some backend, and the commands a person would type there.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use omniq_services::{Proxy, Server};
use tempfile::TempDir;

use super::backend::{Backend, fresh_name};
use super::binary;
use super::process::{PATIENCE, Process};

/// The component that tasks of the tests run.
pub const STEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fault/wat/steps.wat");
/// How long a worker may be silent: the shortest that the settings allow. In buckets it is longer.
pub const LEASE: Duration = Duration::from_secs(1);

/// A folder with a queue in it, or with its queue on a server. It is removed at the end, unless the test fails.
#[derive(Debug)]
pub struct Place {
    /// Where its tasks are kept.
    pub backend: Backend,
    name: String,
    folder: Option<TempDir>,
    path: PathBuf,
    urls: Urls,
    variables: Vec<(String, OsString)>,
}

/// Where the test itself finds what the processes work on.
#[derive(Debug, Clone)]
pub struct Urls {
    /// Tasks and modules.
    pub tasks: String,
    /// Results.
    pub results: String,
    /// Events.
    pub events: String,
}

impl Place {
    /// An empty folder with a queue in a file of SQLite; it has the shortest leases there are.
    pub fn new() -> Self {
        Self::on(Backend::Sqlite)
    }

    /// An empty queue on that backend; on a server, on the one that all tests share.
    pub fn on(backend: Backend) -> Self {
        let server = backend.shared();
        Self::made(backend, server.map_or("", Server::url))
    }

    /// An empty queue on a server that the test may kill.
    pub fn on_server(backend: Backend, server: &Server) -> Self {
        Self::made(backend, server.url())
    }

    fn made(backend: Backend, server: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("omniq-fault-")
            .tempdir()
            .expect("a folder can be made");
        let path = folder.path().to_owned();
        let name = fresh_name();
        let url = backend.url(server, &path, &name);
        let mut place = Self::with_tasks(backend, path, url);
        place.name = name;
        place.folder = Some(folder);
        place
    }

    /// A folder that somebody else removes, with a queue in a file of SQLite.
    pub fn at(path: PathBuf) -> Self {
        let url = Backend::Sqlite.url("", &path, "");
        Self::with_tasks(Backend::Sqlite, path, url)
    }

    fn with_tasks(backend: Backend, path: PathBuf, tasks: String) -> Self {
        // Compiled code is shared by all tests; nothing else is.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("omniq-cache");
        let log = format!("sqlite:{}", path.join("omniq-events.db").display());
        let events = if backend.has_events() { tasks.clone() } else { log };
        let urls = Urls { results: tasks.clone(), tasks: tasks.clone(), events: events.clone() };
        // Where a call may take a second, the shortest lease would be over before a heartbeat is answered.
        let lease = if backend == Backend::S3 { "5s" } else { "1s" };
        let (name, variables) = (String::new(), Vec::new());
        let place = Self { backend, name, folder: None, path, urls, variables };
        place
            .with("OMNIQ_DATA_DIR", ".")
            .with("OMNIQ_TASK_STORAGE_URL", tasks)
            .with("OMNIQ_EVENT_STORAGE_URL", events)
            .with("OMNIQ_LEASE_TIME", lease)
            .with("OMNIQ_CACHE_DIR", cache)
    }

    /// Its processes reach that server through the proxy; the test itself does not.
    pub fn through(self, server: &Server, proxy: &Proxy) -> Self {
        self.behind(server, proxy.addr())
    }

    /// Its processes find that server at another address; the test itself does not look there.
    pub fn behind(mut self, server: &Server, addr: SocketAddr) -> Self {
        let (behind, before) = (server.address().to_string(), addr.to_string());
        for (_, value) in &mut self.variables {
            let text = value.to_string_lossy();
            if text.contains(&behind) {
                *value = text.replace(&behind, &before).into();
            }
        }
        self
    }

    /// Whoever speaks for the tasks of a bucket keeps them through half a minute without a sign of life, on however busy a
    /// machine: for tests that do not kill it. Elsewhere this changes nothing.
    pub fn with_lasting_owner(mut self) -> Self {
        let lasting = |url: &str| url.replace("lease=3&", "lease=60&");
        let Urls { tasks, results, events } = &self.urls;
        self.urls =
            Urls { tasks: lasting(tasks), results: lasting(results), events: lasting(events) };
        for (_, value) in &mut self.variables {
            *value = lasting(&value.to_string_lossy()).into();
        }
        self
    }

    /// With its results in a file of SQLite of their own.
    pub fn results_apart(mut self) -> Self {
        self.urls.results = self.url("results.db");
        let url = self.urls.results.clone();
        self.with("OMNIQ_RESULT_STORAGE_URL", url)
    }

    /// With a setting in the URL of its tasks, such as `durability=os`, where that has settings already.
    pub fn asking(mut self, setting: &str) -> Self {
        let url = format!("{}&{setting}", self.urls.tasks);
        (self.urls.tasks, self.urls.results) = (url.clone(), url.clone());
        self.with("OMNIQ_TASK_STORAGE_URL", url)
    }

    /// What the store is called on its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the test finds everything.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The same with a variable in the environment of every command.
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the tasks.
    pub fn database(&self) -> PathBuf {
        self.path.join("omniq.db")
    }

    /// The URL of a database in the folder.
    pub fn url(&self, file: &str) -> String {
        format!("sqlite:{}", self.path.join(file).display())
    }

    /// `omniq` with these arguments, in this place and in nothing of the environment of the tests.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary::path());
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"OMNIQ_")) {
            command.env_remove(name);
        }
        command.args(args).envs(self.variables.iter().cloned()).current_dir(&self.path);
        command
    }

    /// Starts it.
    pub fn start<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Process {
        Process::start(&self.path, name, self.command(args))
    }

    /// Runs words separated by single spaces to their end, expecting success; gives what they wrote to stdout.
    #[track_caller]
    pub fn says(&self, words: &str) -> String {
        let mut process = self.start("command", words.split(' '));
        let status = process.wait(PATIENCE);
        assert!(status.success(), "`omniq {words}` ended with {status}\n{}", process.said());
        process.stdout()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("what is left of the test is in {}", folder.keep().display());
        }
    }
}
