//! A folder with a queue of its own, and the processes that work on it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::omniq::{Omniq, wat};

/// Longer than anything takes here on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that commands are run in.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made") }
    }

    /// A folder whose queue has the module `jobs`.
    pub fn with_jobs() -> Self {
        let place = Self::empty();
        place.omniq(["push", &wat("jobs"), "--module-version", "1"]).says();
        place
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Will run here.
    pub fn omniq<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Omniq {
        Omniq::new(args).folder(self.folder.path())
    }

    /// Will run here; the text is split at its spaces.
    pub fn run(&self, words: &str) -> Omniq {
        self.omniq(words.split(' '))
    }

    /// Enqueues a task; gives its id.
    #[track_caller]
    pub fn enqueue(&self, words: &str) -> String {
        self.run(&format!("enqueue {words}")).says().trim_end().to_owned()
    }

    /// Starts a process that goes on until it is stopped.
    pub fn start(&self, words: &str) -> Running {
        Running::start(self.run(words))
    }

    /// What `task show` tells of a task.
    #[track_caller]
    pub fn task(&self, id: &str) -> Value {
        self.omniq(["task", "show", id, "-o", "json"]).end().json()
    }
}

/// A process that goes on; it is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Starts it.
    pub fn start(omniq: Omniq) -> Self {
        let mut child = omniq.into_command().spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        Self { stderr: lines(stderr), child, said: Vec::new() }
    }

    /// Waits for a line on stderr that has `part` in it.
    ///
    /// # Panics
    /// It does not come.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr.recv_timeout(left) else {
                panic!("no `{part}` in {:#?}", self.said);
            };
            self.said.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Sends a signal by its name, as `kill` knows it.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("`kill` is there").success());
    }

    /// Waits until Ctrl-C does not just end it.
    ///
    /// # Panics
    /// It never does.
    #[track_caller]
    pub fn wait_until_it_catches_interrupts(&self) {
        const INTERRUPT: u64 = 1 << 1; // SIGINT is 2, and the lowest bit is of 1
        let path = format!("/proc/{}/status", self.child.id());
        let until = Instant::now() + PATIENCE;
        loop {
            let status = std::fs::read_to_string(&path).expect("it runs");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
            if caught.is_some_and(|caught| caught & INTERRUPT != 0) {
                return;
            }
            assert!(Instant::now() < until, "it does not catch SIGINT");
            thread::sleep(Duration::from_millis(5)); // nobody tells of it
        }
    }

    /// Kills it as nothing can be prepared for, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end; gives its exit code and what it wrote to stderr.
    pub fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("it ends");
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.stderr.iter());
        (status.code().expect("it ends by itself"), said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
