//! Guests made with the SDK, with plain WIT and as programs: every type there and back, every way to end, every
//! capability with its grant and without.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::built::component;
use crate::support::omniq::{Ended, Omniq};

fn guest(name: &str) -> String {
    component("guests", &format!("{name}.wasm")).expect("only other languages are left out")
}

fn run(name: &str, words: &[&str]) -> Omniq {
    Omniq::new(["run", &guest(name)].iter().chain(words))
}

/// Calls an echo function; it must say the same, or what it is told to say.
fn echoes(name: &str, function: &str, value: &str, said: &str) {
    assert_eq!(run(name, &[function, value]).says().trim_end(), said, "{function} {value}");
}

fn fails(name: &str, words: &[&str], code: i32, kind: &str) -> Ended {
    let ended = run(name, words).in_json().end();
    assert_eq!(ended.code, code, "{words:?}: {}", ended.stderr);
    assert_eq!(ended.error()["kind"], kind, "{words:?}: {}", ended.stderr);
    ended
}

#[test]
fn every_type_of_the_sdk_goes_there_and_back() {
    for (function, value) in [
        ("echo-bool", "true"),
        ("echo-u8", "255"),
        ("echo-u16", "65535"),
        ("echo-u32", "4294967295"),
        ("echo-u64", "18446744073709551615"),
        ("echo-s8", "-128"),
        ("echo-s16", "-32768"),
        ("echo-s32", "-2147483648"),
        ("echo-s64", "-9223372036854775808"),
        ("echo-f32", "-0.1"),
        ("echo-f32", "nan"),
        ("echo-f64", "1.7976931348623157e308"),
        ("echo-f64", "-inf"),
        ("echo-char", "'🦀'"),
        ("echo-string", "\"Zoë\\n\\\"\""),
        ("echo-numbers", "[-1, 9007199254740993]"),
        ("echo-strings", "[\"\", \"a\"]"),
        ("echo-lists", "[[], [1, 2]]"),
        ("echo-tuple", "(1, \"b\", true)"),
        (
            "echo-record",
            "{name: \"Ada\", age: 36, home: some({x: 1, y: -1}), friends: [\"Bob\"], favourite: red}",
        ),
        ("echo-variant", "empty"),
        ("echo-variant", "circle(0.5)"),
        ("echo-variant", "segment(({x: 0, y: 0}, {x: 1, y: 1}))"),
        ("echo-enum", "light-blue"),
        ("echo-option", "none"),
        ("echo-option", "some(5)"),
        ("echo-nested-option", "none"),
        ("echo-nested-option", "some(none)"),
        ("echo-nested-option", "some(some(7))"),
        ("echo-pairs", "[(\"a\", none), (\"b\", some({x: 1, y: 2}))]"),
        ("echo-results", "[ok({x: 1, y: 2}), err(red)]"),
    ] {
        let said = if value.starts_with('-') {
            run("every-type", &[function, "--", value]).says()
        } else {
            run("every-type", &[function, value]).says()
        };
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let same = said.trim_end() == value
            || number(&said)
                .zip(number(value))
                .is_some_and(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(same, "{function} {value} said {said}");
    }
}

#[test]
fn every_type_of_plain_wit_goes_there_and_back() {
    echoes("plain", "echo-flags", "{red, green}", "{red, green}");
    echoes("plain", "echo-nine", "{f8}", "{f8}");
    echoes("plain", "echo-many", "{f0, f31}", "{f0, f31}");
    for value in [
        "nothing",
        "float(0.5)",
        "double(-0.25)",
        "long(-1)",
        "short(255)",
        "text(\"a\")",
        "letter('é')",
        "colours({light-blue})",
        "nested(ok(some(a(18446744073709551615))))",
        "nested(ok(none))",
        "nested(ok(some(b((1.5, true)))))",
        "nested(err(2.5))",
    ] {
        echoes("plain", "echo-mixed", value, value);
        echoes(
            "plain",
            "echo-mixed-list",
            &format!("[{value}, nothing]"),
            &format!("[{value}, nothing]"),
        );
    }
    let wide = r#"{a: "1", b: "2", c: "3", d: "4", e: "5", f: "6", g: "7", h: "8", i: "9"}"#;
    echoes("plain", "echo-wide", wide, wide);
    echoes("plain", "at-root", "(1, some(\"x\"))", "(1, some(\"x\"))");
}

#[test]
fn a_name_of_two_functions_must_be_said_in_full() {
    let ended = fails("plain", &["same", "1"], 3, "not-found");
    assert!(
        ended.stderr.contains("values.same") && ended.stderr.contains("others.same"),
        "{}",
        ended.stderr
    );
    echoes("plain", "values.same", "1", "1");
    echoes("plain", "test:plain/others@1.2.0#same", "\"a\"", "\"a\"");
}

#[test]
fn errors_of_the_guest_s_own_are_values() {
    let ended = fails("trouble", &["fail", "some(\"of me\")"], 9, "err-result");
    assert_eq!(ended.error()["value"], serde_json::json!({"because": "of me"}));
    let ended = fails(
        "every-type",
        &["fail", "retry-after({seconds: 5, note: \"busy\"})"],
        9,
        "err-result",
    );
    assert_eq!(ended.error()["value"]["retry"], serde_json::json!({"after": 5000}));
}

#[test]
fn trouble_ends_by_its_name() {
    let ended = fails("trouble", &["panic", "\"on the disco\""], 12, "trap");
    assert!(ended.stderr.contains("deep_within"), "no symbol names in {}", ended.stderr);
    assert!(ended.stderr.contains("on the disco"), "no panic message in {}", ended.stderr);
    fails("trouble", &["divide", "1", "0"], 12, "trap");
    fails("trouble", &["exit", "0"], 9, "exit");
    fails("trouble", &["exit", "3"], 9, "exit");
    fails("trouble", &["spin", "--fuel", "10000000"], 10, "fuel");
    fails("trouble", &["spin", "--timeout", "100ms"], 10, "timeout");
    fails("trouble", &["spin-in-host", "--timeout", "100ms"], 10, "timeout");
    fails("trouble", &["sleep", "3600000", "--timeout", "100ms"], 10, "timeout");
    fails("trouble", &["allocate", "100", "--memory", "50MiB"], 10, "memory");
    // A guest that copes with a refusal succeeds.
    run("trouble", &["allocate-all"]).says();
    // Rust keeps large frames on a stack of its own, in memory, which ends before the engine's does.
    fails("trouble", &["recurse", "100000000"], 12, "trap");
    fails("trouble", &["bytes", "2000000", "--max-result", "1MB"], 10, "output-too-large");
    assert_eq!(run("trouble", &["good", "7"]).says(), "7\n");
}

#[test]
fn three_million_bytes_come_out_and_eight_go_in() {
    let ended = run("trouble", &["bytes", "3000000", "-o", "cbor"]).end();
    assert_eq!((ended.code, ended.stdout.len()), (0, 3_000_005), "{}", ended.stderr);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("data");
    fs::write(&file, vec![1; 8 << 20]).expect("writes");
    assert_eq!(
        run("trouble", &["size", &format!("bytes=@{}", file.display())]).says(),
        "8388608\n"
    );
}

#[test]
fn a_task_talks_to_its_host() {
    let info = run("context", &["info", "-o", "json", "--timeout", "10s"]).says();
    let info: serde_json::Value = serde_json::from_str(&info).expect("is JSON");
    assert_eq!((&info["target"], &info["attempt"]), (&"info".into(), &1.into()), "{info}");
    assert!(info["deadline-ms"].is_number() || info["deadline-ms"].is_string(), "{info}");

    let ended =
        run("context", &["log", "warn", "\"mind the gap\"", "[(\"platform\", \"2\")]"]).end();
    assert!(
        ended.stderr.contains("mind the gap") && ended.stderr.contains("platform=2"),
        "{}",
        ended.stderr
    );
    fails("context", &["log-lines", "5", "--log-lines", "3"], 10, "log-lines");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out");
    let said =
        run("context", &["output", "none", "3", "1000", "--output", file.to_str().expect("UTF-8")])
            .says();
    assert_eq!(said, "3000\n");
    assert_eq!(fs::read(&file).expect("was written"), vec![b'x'; 3000]);
    let cursor = "{media-type: \"text/plain\", body: [1]}";
    let said = run("context", &["cursor", cursor]).says();
    assert_eq!(said.trim_end(), format!("(none, some({cursor}))"));
}

#[test]
fn a_handler_takes_bytes() {
    let said = run(
        "handler",
        &["run", "\"upper\"", "{media-type: \"text/plain\", body: [111, 107]}", "-o", "json"],
    )
    .says();
    let payload: serde_json::Value = serde_json::from_str(&said).expect("is JSON");
    assert_eq!(payload["body"], "T0s=", "{payload}");
    let ended =
        fails("handler", &["run", "\"nothing\"", "{media-type: \"\", body: []}"], 9, "err-result");
    assert_eq!(ended.error()["value"]["code"], "unknown-target");
}

#[test]
fn a_program_gets_arguments_stdin_and_what_is_granted() {
    let said = |words: &[&str]| run("noisy", words).says();
    assert_eq!(said(&["--", "args", "a", "-b", "--", "c d"]), "a\n-b\n--\nc d\n");
    assert_eq!(run("noisy", &["--", "cat"]).stdin(vec![0, 255, 10]).end().stdout, [0, 255, 10]);
    assert_eq!(said(&["--", "env"]), "");
    assert_eq!(said(&["--grant-env", "COLOUR=blue", "--", "env"]), "COLOUR=blue\n");
    assert_eq!(said(&["--clock", "0", "--", "now"]), "0\n");
    let random = || said(&["--seed", "7", "--", "random"]);
    assert_eq!(random(), random());
    for code in ["1", "7"] {
        fails("noisy", &["--", "exit", code], 9, "exit");
        fails("noisy", &["--", "return", code], 9, "exit");
    }
    assert_eq!(run("noisy", &["--", "exit", "0"]).end().code, 0);
    // More than the 64 KiB that a stream takes at once, in one write.
    assert_eq!(run("noisy", &["--", "print", "1000000"]).end().stdout.len(), 1_000_000);
    let ended = fails(
        "noisy",
        &["--max-stdout", "100kB", "--", "print", "1000000"],
        10,
        "output-too-large",
    );
    assert!(ended.stderr.contains("stdout"), "{}", ended.stderr);
}

#[test]
fn files_need_a_grant() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    fs::write(folder.path().join("note"), "hello").expect("writes");
    let (read_only, writable) = (format!("{path}:/in"), format!("{path}:/in:rw"));

    assert_eq!(
        run("noisy", &["--grant-dir", &read_only, "--", "read", "/in/note"]).says(),
        "hello"
    );
    assert_eq!(run("noisy", &["--grant-dir", &read_only, "--", "list", "/in"]).says(), "note\n");
    let ended = run("noisy", &["--grant-dir", &read_only, "--", "write", "/in/note", "bye"]).end();
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("filesystem"), "{}", ended.stderr);
    assert_eq!(fs::read(folder.path().join("note")).expect("is there"), b"hello");
    assert_eq!(
        run("noisy", &["--grant-dir", &writable, "--", "write", "/in/new", "bye"]).end().code,
        0
    );
    assert_eq!(fs::read(folder.path().join("new")).expect("is there"), b"bye");

    let ended = run("noisy", &["--", "read", "/etc/hostname"]).end();
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains("--grant-dir"), "{}", ended.stderr);
    let ended =
        run("noisy", &["--grant-dir", &read_only, "--", "read", "/in/../../etc/hostname"]).end();
    assert_ne!(ended.code, 0, "{}", ended.stderr);
}

/// Who opens it waits for the other end, in a thread of the host that nothing can interrupt.
#[test]
fn a_pipe_in_a_granted_directory_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().expect("runs");
    assert!(made.success());
    let grant = format!("{path}:/in");
    let started = Instant::now();
    let ended =
        run("noisy", &["--timeout", "300ms", "--grant-dir", &grant, "--", "read", "/in/pipe"])
            .in_json()
            .end();
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    assert_eq!(ended.error()["kind"], "timeout");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn the_way_out_of_a_directory_is_told_from_what_it_does_not_allow() {
    let folder = tempfile::tempdir().expect("a folder");
    let grant = format!("{}:/in:rw", folder.path().to_str().expect("UTF-8"));
    let ended = run("noisy", &["--grant-dir", &grant, "--", "write", "/in/../x", "bye"]).end();
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(ended.stderr.contains("outside of what is granted"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: give it a directory with all"), "{}", ended.stderr);
}

#[test]
fn too_many_values_are_not_a_matter_of_bytes() {
    let numbers = format!("[[{}]]", vec!["1"; 1_000_001].join(","));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, numbers).expect("writes");
    let args = format!("@{}", file.path().to_str().expect("UTF-8"));
    let ended = run("every-type", &["echo-numbers", "--args", &args]).end();
    assert_eq!(ended.code, 10, "{}", ended.stderr);
    assert!(ended.stderr.contains("1000000 values"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: this limit is fixed"), "{}", ended.stderr);
}

#[test]
fn hosts_need_a_grant() {
    let ended = run("noisy", &["--", "get", "http://example.com/secret?token=1"]).end();
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("--grant-http") && ended.stderr.contains("example.com"),
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.lines().any(|line| line.starts_with("error") && line.contains("token")),
        "{}",
        ended.stderr
    );

    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = server.local_addr().expect("has an address").to_string();
    let serving = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = server.accept().expect("the guest comes");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).expect("asks");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            .expect("answers");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let url = format!("http://{address}/path");
    let said = run("noisy", &["--grant-http", &address, "--", "get", &url]).says();
    assert!(said.contains("200") && said.contains("hello"), "{said}");
    let request = serving.join().expect("served");
    assert!(request.starts_with("GET /path HTTP/1.1"), "{request}");
    assert!(request.to_lowercase().contains(&format!("host: {address}")), "{request}");
}
