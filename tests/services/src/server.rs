//! A server of one's own: started, killed, restarted, stopped and resumed by the test that owns it.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::family::Family;
use crate::proxy::Proxy;

/// The script that starts servers and ends them.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services");
/// Longer than the script itself waits for a server.
const PATIENCE: Duration = Duration::from_secs(150);

/// What can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL 15 or newer. Options are its settings, such as `("fsync", "off")`, and `("pooler", "3")`: its URL is that of
    /// a PgBouncer with so many connections to it then.
    Postgres,
    /// Redis 7. Options are its settings, such as `("appendfsync", "everysec")`, and `("cluster", "1")` or `"3"` nodes.
    Redis,
    /// Valkey 9, with the options of Redis.
    Valkey,
    /// NATS with JetStream. Options are settings of JetStream, such as `("sync_interval", "2m")`, and `("cluster", "3")`.
    Nats,
    /// SeaweedFS, which speaks S3 with conditional puts. Options are flags of `weed server`.
    S3,
    /// Azurite, which stands for Azure. It forgets the last seconds when it is killed, with `("memory", "on")` all. Options are its flags.
    Azure,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Nats => "nats",
            Self::S3 => "s3",
            Self::Azure => "azure",
        })
    }
}

/// A running server with a folder of its own. Both are gone when this is dropped, or when this process has ended.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    url: String,
    folder: PathBuf,
    script: Mutex<Script>,
}

/// The script that watches over the server, and what it says.
#[derive(Debug)]
struct Script {
    child: Child,
    /// It ends the server when this is closed.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The server's processes, of a cluster one for each node.
    pids: Vec<u32>,
}

impl Server {
    /// Starts one, with settings over those of `scripts/services`. The option `folder` names a place to keep its folder in,
    /// such as a small file system; `("tls", "on")` or `"mutual"`, for NATS also `"first"`, has it take encrypted connections
    /// only, for which there are `ca.pem`, `client.pem` and `client.key` in `tls` below [`Server::folder`].
    ///
    /// # Panics
    /// It does not start; the message has its log and the next step.
    #[track_caller]
    pub fn start(kind: Kind, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new(SCRIPT);
        command.args(["run", &kind.to_string()]);
        for (name, value) in options {
            command.args([format!("--{name}"), (*value).to_owned()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("`{SCRIPT}` does not start: {error}"));
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            while matches!(stdout.read_line(&mut line), Ok(1..)) {
                // Nobody listens any more when the server was dropped.
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        let mut script = Script { child, stdin, lines, pids: Vec::new() };
        let ready = script.ready(kind);
        Self { kind, url: ready.url, folder: ready.folder, script: Mutex::new(script) }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where clients find it. It stays the same when the server is restarted.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address in its URL; of a cluster, the first node's.
    ///
    /// # Panics
    /// Never: each URL has one.
    pub fn address(&self) -> SocketAddr {
        let from = self.url.find("127.0.0.1:").expect("servers are on loopback");
        let rest = &self.url[from..];
        let port = rest["127.0.0.1:".len()..].find(|letter: char| !letter.is_ascii_digit());
        let end = port.map_or(rest.len(), |port| port + "127.0.0.1:".len());
        rest[..end].parse().expect("an address and a port")
    }

    /// Its URL with the proxy's address in place of its own.
    pub fn url_through(&self, proxy: &Proxy) -> String {
        self.url_at(proxy.addr())
    }

    /// Its URL with that address in place of its own.
    pub fn url_at(&self, addr: SocketAddr) -> String {
        self.url.replace(&self.address().to_string(), &addr.to_string())
    }

    /// Its first process; of a cluster, the first node's.
    pub fn pid(&self) -> u32 {
        self.script().pids[0]
    }

    /// Where it keeps everything: `log` is what it says.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it said, for messages.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills all its processes at once, as by `kill -9`, and waits for their end. What it kept stays.
    pub fn kill(&self) {
        let script = self.script();
        let family = Family::stopped(script.child.id());
        family.signal(Signal::KILL);
        family.ended();
    }

    /// Kills one node of a cluster, as by `kill -9`, and waits for its end; the others go on.
    ///
    /// # Panics
    /// There is no such node.
    #[track_caller]
    pub fn kill_node(&self, node: usize) {
        let process = Family::of(self.script().pids[node]);
        process.signal(Signal::KILL);
        process.ended();
    }

    /// Stops one node of a cluster (SIGSTOP); [`resume`](Self::resume) lets all go on.
    ///
    /// # Panics
    /// There is no such node.
    #[track_caller]
    pub fn pause_node(&self, node: usize) {
        let process = Family::of(self.script().pids[node]);
        process.signal(Signal::STOP);
        process.still();
    }

    /// Starts it again, with the same port and folder; one that still runs is killed first.
    ///
    /// # Panics
    /// It does not start; the message has its log.
    #[track_caller]
    pub fn restart(&self) {
        let mut script = self.script();
        let told = script.stdin.as_mut().map(|stdin| stdin.write_all(b"restart\n"));
        assert!(matches!(told, Some(Ok(()))), "the script of {} is gone: {told:?}", self.kind);
        let ready = script.ready(self.kind);
        assert_eq!(ready.url, self.url, "a restarted server is where it was");
    }

    /// Stops all its processes (SIGSTOP): connections stay open, and nothing is answered.
    pub fn pause(&self) {
        Family::stopped(self.script().child.id());
    }

    /// Lets them go on.
    pub fn resume(&self) {
        Family::below(self.script().child.id()).signal(Signal::CONT);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut script = self.script();
        drop(script.stdin.take());
        let _ = script.child.wait();
    }
}

/// What the script says of a server that answers.
#[derive(Debug)]
struct Ready {
    url: String,
    folder: PathBuf,
}

impl Script {
    #[track_caller]
    fn ready(&mut self, kind: Kind) -> Ready {
        let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            drop(self.stdin.take());
            let _ = self.child.kill();
            let mut said = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            panic!("no {kind} for this test\n{said}");
        });
        let words: Vec<_> = line.split_whitespace().collect();
        let ["ready", url, pid, folder] = words[..] else { panic!("{kind}: `{line}`") };
        let value = |word: &'_ str| word.split_once('=').map(|(_, value)| value.to_owned());
        let pids = value(pid).unwrap_or_default();
        self.pids = pids.split(',').map(|pid| pid.parse().unwrap_or_default()).collect();
        Ready { url: url.to_owned(), folder: value(folder).unwrap_or_default().into() }
    }
}
