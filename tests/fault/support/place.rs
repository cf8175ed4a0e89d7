//! A folder of its own for each test, with one database in it, and the commands a person would type there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::binary;
use super::process::{PATIENCE, Process};

/// The component that tasks of the tests run.
pub const STEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fault/wat/steps.wat");
/// How long a worker may be silent: the shortest that the settings allow.
pub const LEASE: Duration = Duration::from_secs(1);

/// A folder with a queue in it. It is removed at the end, unless the test fails.
#[derive(Debug)]
pub struct Place {
    folder: Option<TempDir>,
    path: PathBuf,
    variables: Vec<(String, OsString)>,
}

impl Place {
    /// An empty folder; its queue has the shortest leases there are.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("omniq-fault-")
            .tempdir()
            .expect("a folder can be made");
        let path = folder.path().to_owned();
        let mut place = Self::at(path);
        place.folder = Some(folder);
        place
    }

    /// A folder that somebody else removes.
    pub fn at(path: PathBuf) -> Self {
        // Compiled code is shared by all tests; nothing else is.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("omniq-cache");
        let place = Self { folder: None, path, variables: Vec::new() };
        place
            .with("OMNIQ_DATA_DIR", ".")
            .with("OMNIQ_TASK_STORAGE_URL", "sqlite:omniq.db")
            .with("OMNIQ_LEASE_TIME", "1s")
            .with("OMNIQ_CACHE_DIR", cache)
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
