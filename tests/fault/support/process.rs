//! A process of the binary under test: started, watched, stopped, killed. Nothing but own children is ever signalled.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::place::Place;

/// How long anything may take that nobody measures.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `holds`, for what nobody tells of by itself.
///
/// # Panics
/// It does not hold within that time.
#[track_caller]
pub fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {within:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs words that must fail, with a message that has all of `parts`; whatever happens, it is no panic.
#[track_caller]
pub fn fails(place: &Place, words: &str, parts: &[&str]) -> Process {
    let mut process = place.start("failing command", words.split(' '));
    let status = process.wait(PATIENCE);
    assert!(!status.success(), "`omniq {words}` worked\n{}", process.said());
    is_clear(&process, words, parts);
    process
}

/// Fails if a message has not all of `parts`, or tells of a panic.
#[track_caller]
pub fn is_clear(process: &Process, words: &str, parts: &[&str]) {
    let stderr = process.stderr();
    assert!(stderr.contains("error: ") && !stderr.contains("panicked"), "`{words}`: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "`{words}` does not say `{part}`: {stderr}");
    }
}

/// A child of this test. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// What it is called in messages, such as `worker 3`.
    pub name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it; what it writes goes to `NAME.out` and `NAME.err` in `folder`.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(folder: &Path, name: &str, mut command: Command) -> Self {
        let file = |kind: &str| folder.join(format!("{}.{kind}", name.replace(' ', "-")));
        let (stdout, stderr) = (file("out"), file("err"));
        let create = |path: &Path| File::create(path).expect("the test's folder takes files");
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, name: name.to_owned(), stdout, stderr, ended: None }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless its end was already seen.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // The child is not reaped yet, so the number is still its own.
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("a child may be signalled");
        }
    }

    /// Kills it as by `kill -9`, and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(PATIENCE)
    }

    /// Whether it has ended by now, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.ended_within(Duration::ZERO)
    }

    /// Waits for its end, at most so long.
    pub fn ended_within(&mut self, within: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() && self.ends_within(within) {
            self.ended = Some(self.child.wait().expect("a child can be waited for"));
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It has not ended in that time; the message has what it wrote.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        match self.ended_within(within) {
            Some(status) => status,
            None => panic!("{} has not ended within {within:?}\n{}", self.name, self.said()),
        }
    }

    fn ends_within(&self, within: Duration) -> bool {
        let pid = Pid::from_child(&self.child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("a child has a handle");
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("a deadline of a test fits");
            let mut watched = [PollFd::new(&handle, PollFlags::IN)];
            match poll(&mut watched, Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(error) if error == rustix::io::Errno::INTR => {}
                Err(error) => panic!("a child cannot be watched: {error}"),
            }
        }
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The end of what it wrote, for messages.
    pub fn said(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        format!(
            "--- stdout of {}\n{}\n--- stderr\n{}",
            self.name,
            tail(self.stdout()),
            tail(self.stderr())
        )
    }

    /// Bytes of memory it has in RAM now.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("it has no memory left"))
    }

    /// Processor time it has used so far, all threads together.
    ///
    /// # Errors
    /// It has ended.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // The name stands in parentheses and may hold anything; the fields after it are those of proc(5), from the third.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let ticks = fields[11] + fields[12];
        Ok(Duration::from_secs(ticks)
            / u32::try_from(rustix::param::clock_ticks_per_second()).expect("it is 100"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
