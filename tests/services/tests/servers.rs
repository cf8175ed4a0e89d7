//! Servers that are killed, stopped, restarted, and gone in the end. What they keep is asked in the words of their own
//! protocols: a client would hide what happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use omniq_services::{Kind, Mode, Proxy, Server};

const PATIENCE: Duration = Duration::from_secs(60);

/// Says a line to a Redis server and gives its one-line answer.
fn ask(server: &Server, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

#[track_caller]
fn gone(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while path.exists() {
        assert!(Instant::now() < deadline, "{} is still there", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether it runs: one that has ended and waits to be buried (Z), or is being buried (X), does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z") && !rest.starts_with(" X"))
}

/// Kills, restarts, stops and drops one of each kind.
#[track_caller]
fn lives_and_dies(kind: Kind, options: &[(&str, &str)]) {
    let server = Server::start(kind, options);
    let (url, pid, folder) = (server.url().to_owned(), server.pid(), server.folder().to_owned());
    assert!(lives(pid) && folder.is_dir(), "{kind}: {pid} {}", folder.display());
    TcpStream::connect(server.address()).expect("it listens");

    server.kill();
    assert!(!lives(pid), "{kind}: {pid} was killed");
    TcpStream::connect(server.address()).expect_err("nobody listens");
    assert!(folder.is_dir(), "what it kept stays");
    server.restart();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid, "{kind}");
    TcpStream::connect(server.address()).expect("it listens again");

    server.restart();
    TcpStream::connect(server.address()).expect("one that runs is restarted too");
    let pid = server.pid();
    drop(server);
    assert!(!lives(pid) && !folder.exists(), "{kind}: {pid} {}", folder.display());
}

#[test]
fn postgres_lives_and_dies() {
    lives_and_dies(Kind::Postgres, &[("max_connections", "50")]);
}

#[test]
fn a_pooler_lives_and_dies_with_its_server() {
    lives_and_dies(Kind::Postgres, &[("pooler", "2")]);
}

#[test]
fn redis_lives_and_dies() {
    lives_and_dies(Kind::Redis, &[("appendfsync", "everysec")]);
}

#[test]
fn a_cluster_lives_and_dies() {
    lives_and_dies(Kind::Redis, &[("cluster", "3")]);
}

#[test]
fn valkey_lives_and_dies() {
    lives_and_dies(Kind::Valkey, &[]);
}

#[test]
fn nats_lives_and_dies() {
    lives_and_dies(Kind::Nats, &[("sync_interval", "2m")]);
}

#[test]
fn of_a_cluster_one_node_may_die_alone() {
    let server = Server::start(Kind::Nats, &[("cluster", "3")]);
    let [first, second, third] = server.url()["nats://".len()..].split(',').collect::<Vec<_>>()[..]
    else {
        panic!("{}", server.url())
    };
    server.kill_node(1);
    TcpStream::connect(second).expect_err("nobody listens");
    for other in [first, third] {
        TcpStream::connect(other).expect("it listens");
    }
}

#[test]
fn s3_lives_and_dies() {
    lives_and_dies(Kind::S3, &[]);
}

#[test]
fn azure_lives_and_dies() {
    lives_and_dies(Kind::Azure, &[]);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let server = Server::start(Kind::Redis, &[]);
    assert_eq!(ask(&server, "SET key kept").expect("it answers"), "+OK");
    server.kill();
    ask(&server, "PING").expect_err("nobody listens");
    server.restart();
    assert_eq!(ask(&server, "STRLEN key").expect("it answers"), ":4");
}

#[test]
fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = Server::start(Kind::Redis, &[]);
    let proxy = Proxy::to(server.address());
    assert_eq!(server.url_through(&proxy), format!("redis://{}", proxy.addr()));
    server.pause();
    assert_eq!(
        ask(&server, "PING").expect_err("it stands still").kind(),
        std::io::ErrorKind::WouldBlock
    );
    server.resume();
    assert_eq!(ask(&server, "PING").expect("it answers"), "+PONG");
    proxy.set(Mode::Refuse);
    TcpStream::connect(proxy.addr()).expect_err("the proxy refuses");
}

#[test]
fn one_server_of_each_kind_serves_the_whole_process() {
    let first = omniq_services::redis();
    assert_eq!(ask(first, "PING").expect("it answers"), "+PONG");
    assert!(std::ptr::eq(first, omniq_services::redis()));
}

/// Whoever starts the script may die in any way: the end of its input says so.
#[test]
fn a_server_ends_with_whoever_started_it() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services");
    let mut child = Command::new(script)
        .args(["run", "valkey"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("it says where the server is");
    let word = |name: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        found.expect("the line has it").to_owned()
    };
    let (pid, folder) = (word("pid=").parse().expect("a number"), word("folder="));
    assert!(lives(pid));
    drop(child.stdin.take());
    assert!(child.wait().expect("it can be waited for").success());
    assert!(!lives(pid) && !Path::new(&folder).exists());
}

#[test]
fn a_server_that_cannot_start_says_why_and_leaves_nothing() {
    let within = std::env::temp_dir().join(format!("omniq-refused-{}", std::process::id()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/services");
    for (args, reason) in [
        (["run", "redis", "--no-such-setting", "1"], "no-such-setting"),
        (["run", "postgres", "--shared_buffers", "much"], "shared_buffers"),
        (["run", "nats", "--no_such_field", "1"], "no_such_field"),
        (["run", "redis", "--cluster", "2"], "a cluster has 1 or 3 nodes, not `2`"),
        (["run", "s3", "--tls", "on"], "for any server but those of buckets"),
        (["run", "redis", "--tls", "of"], "--tls is `on` or `mutual`"),
        (["run", "postgres", "--pooler", "0"], "from 1 to 99 connections, not `0`"),
        (["run", "oracle", "--a", "b"], "`oracle` is no kind of server"),
    ] {
        let mut child = Command::new(script)
            .args(args)
            .args(["--folder".as_ref(), within.as_os_str()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let mut said = String::new();
        let stderr = child.stderr.as_mut().expect("it was asked for");
        stderr.read_to_string(&mut said).expect("it is text");
        assert!(!child.wait().expect("it can be waited for").success(), "{args:?}");
        assert!(said.contains(reason), "{args:?}: {said}");
        let left = std::fs::read_dir(&within).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{args:?} left something in {}", within.display());
    }
    let _ = std::fs::remove_dir(&within);
    gone(&within);
}
