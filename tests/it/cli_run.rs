//! `omniq run`: arguments in every form, results in every form, and every way a run can end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::omniq::{Ended, Omniq, wat};

/// Runs words separated by single spaces, expecting success.
#[track_caller]
fn says(words: &str, expected: &str) {
    assert_eq!(Omniq::run(words).says(), format!("{expected}\n"), "{words}");
}

/// Runs a component that must fail, once for people and once for programs.
#[track_caller]
fn fails(run: impl Fn() -> Omniq, code: i32, kind: &str, says: &str) -> Ended {
    let ended = run().end();
    assert_eq!(ended.code, code, "{}", ended.stderr);
    let error = ended.stderr.lines().find(|line| line.starts_with("error: "));
    assert!(error.is_some(), "{}", ended.stderr);
    assert!(ended.stderr.contains(says), "`{says}` in {}", ended.stderr);
    let ended = run().in_json().end();
    assert_eq!(ended.code, code, "{}", ended.stderr);
    assert_eq!(ended.error()["kind"], kind, "{}", ended.text());
    assert!(!ended.error()["message"].as_str().unwrap_or_default().is_empty());
    ended
}

#[test]
fn arguments_are_given_in_order_by_name_or_as_a_document() {
    says("jobs add 1 2", "3");
    says("jobs add -5 10", "5");
    says("jobs add b=-2 a=1", "-1");
    says("jobs add 1 b=2", "3");
    says("jobs half -1.5e3", "-750.0");
    says("jobs half -- -inf", "-inf");
    says("jobs add --args [1,2]", "3");
    says(r#"jobs add --args {"b":4,"a":3}"#, "7");
    says("jobs area {width:3,height:4}", "12");
    says("jobs name square(2)", "\"square\"");
    says("jobs echo Ada", "\"Ada\"");
    let run = Omniq::run("jobs echo").arg("{ \"x\": 1 }").says();
    assert_eq!(run, "\"{ \\\"x\\\": 1 }\"\n");
}

#[test]
fn options_stand_anywhere() {
    let jobs = wat("jobs");
    for words in [
        ["run", "--fuel", "1_000", &jobs, "add", "1", "2"],
        ["run", &jobs, "--fuel", "1k", "add", "1", "2"],
        ["run", &jobs, "add", "1", "2", "--fuel", "1e3"],
    ] {
        assert_eq!(Omniq::new(words).says(), "3\n");
    }
}

#[test]
fn a_file_is_an_argument() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bytes = file("bytes", &[0, 255, 10, 13].repeat(100_000));
    assert_eq!(Omniq::run("jobs length").arg(format!("@{bytes}")).says(), "400000\n");
    assert_eq!(Omniq::run("jobs length").arg(format!("content=@{bytes}")).says(), "400000\n");
    assert_eq!(Omniq::run("jobs length @-").stdin([7; 1000]).says(), "1000\n");
    let json = file("args.json", br#"{"a": 1, "b": 2}"#);
    assert_eq!(Omniq::run("jobs add --args").arg(format!("@{json}")).says(), "3\n");
    let cbor = file("args.cbor", b"\x82\x01\x20");
    assert_eq!(Omniq::run("jobs add --args-cbor").arg(cbor).says(), "0\n");
}

#[test]
fn a_component_is_read_from_a_binary_a_text_or_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.wasm");
    let binary = wat::parse_file(wat("jobs")).unwrap();
    fs::write(&path, &binary).unwrap();
    assert_eq!(Omniq::new(["run", path.to_str().unwrap(), "add", "1", "2"]).says(), "3\n");
    assert_eq!(Omniq::new(["run", "-", "add", "1", "2"]).stdin(binary).says(), "3\n");
    let text = fs::read(wat("jobs")).unwrap();
    assert_eq!(Omniq::new(["run", "-", "add", "1", "2"]).stdin(text).says(), "3\n");
}

#[test]
fn a_result_has_three_forms() {
    assert_eq!(Omniq::run("jobs zeros 3 -o wave").says(), "[0, 0, 0]\n");
    assert_eq!(Omniq::run("jobs zeros 3 -o json").says(), "\"AAAA\"\n");
    assert_eq!(Omniq::run("jobs zeros 3 -o cbor").end().stdout, b"\x43\0\0\0");
    assert_eq!(Omniq::run("jobs nothing").says(), "");
    assert_eq!(Omniq::run("jobs nothing -o json").says(), "null\n");
    assert_eq!(Omniq::run("jobs nothing -o cbor").end().stdout, b"\xf6");
    let large = Omniq::run("jobs zeros 8000000 -o cbor").end();
    assert_eq!((large.code, large.stdout.len()), (0, 8_000_005));
}

#[test]
fn arguments_that_do_not_fit() {
    for (words, says) in [
        ("jobs add 1", "`b`"),
        ("jobs add a=1", "`b`"),
        ("jobs add 1 2 3", "takes 2 arguments, got 3"),
        ("jobs add 1 two", "`b` must be s32"),
        ("jobs add 1 2147483648", "-2147483648 to 2147483647"),
        ("jobs add 1 c=2", "no argument `c`"),
        ("jobs area {width:1}", "record rect { width: u32, height: u32 }"),
        ("jobs name cirlce(1)", "did you mean `circle`?"),
        ("jobs add --args [1]", "takes 2 arguments, got 1"),
        ("jobs add --args {", "JSON"),
    ] {
        let ended = fails(|| Omniq::run(words), 7, "args-mismatch", says);
        assert!(ended.stderr.contains("hint: the function is `"), "{}", ended.stderr);
    }
}

#[test]
fn what_does_not_exist() {
    let ended = fails(|| Omniq::run("jobs ad 1 2"), 3, "not-found", "did you mean `add`?");
    assert!(ended.stderr.contains("omniq inspect"), "{}", ended.stderr);
    fails(|| Omniq::new(["run", "missing.wasm", "f"]), 3, "not-found", "`missing.wasm`");
    fails(|| Omniq::run("jobs length @missing.png"), 3, "not-found", "`missing.png`");
    fails(|| Omniq::run("jobs add --args @missing.json"), 3, "not-found", "`missing.json`");
    fails(|| Omniq::run("world directories --grant-dir missing"), 3, "not-found", "`missing`");
    fails(|| Omniq::run("echo shout"), 3, "not-found", "after `--`");
    fails(|| Omniq::run("jobs nothing --output missing/file"), 3, "not-found", "`missing`");
}

#[test]
fn what_is_not_understood() {
    for (words, says) in [
        ("jobs", "`add`"),
        ("jobs --", "`add`"),
        ("both", "`--`"),
        ("echo --args []", "no typed arguments"),
        ("world environment --grant-env OMNIQ_NO_SUCH_VARIABLE", "OMNIQ_NO_SUCH_VARIABLE"),
        ("jobs nothing --output .", "directory"),
    ] {
        fails(|| Omniq::run(words), 2, "usage", says);
    }
    for (words, says) in [
        ("jobs add 1 2 --memory much", "64KiB"),
        ("jobs add 1 2 --fuel -1", "--fuel"),
        ("jobs add 1 2 --timeout soon", "500ms"),
        ("jobs add 1 2 --feul 1", "--fuel"),
        ("jobs add 1 2 --args []", "--args"),
        ("jobs add 1 2 --profile loose", "strict"),
        ("jobs add 1 2 --stack 1G", "between"),
        ("jobs add 1 2 --grant-dir a:b:c", "HOST:GUEST"),
        ("jobs add 1 2 --clock noon", "2026-01-31T12:00:00Z"),
    ] {
        let ended = Omniq::run(words).end();
        assert_eq!(ended.code, 2, "{words}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{words}: {}", ended.stderr);
        assert_eq!(ended.text(), "", "nothing but data is written to stdout");
    }
}

#[test]
fn an_error_of_the_function_is_shown_as_a_value() {
    let ended = fails(
        || Omniq::run("jobs find 7"),
        9,
        "err-result",
        "error: the function returned an error: {row: 7, reason: \"no such row\"}",
    );
    assert_eq!(ended.error()["value"], json!({"row": 7, "reason": "no such row"}));
    assert!(ended.error()["usage"]["fuel"].as_u64() > Some(0));
    let ended = fails(|| Omniq::run("jobs refuse"), 9, "err-result", "returned an error");
    assert_eq!(ended.error().get("value"), Some(&json!(null)), "it is there, and says nothing");
}

#[test]
fn a_trap_names_the_guest_s_functions() {
    let ended = fails(|| Omniq::run("jobs broken"), 12, "trap", "at resize_row in code");
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("    at ")).collect();
    assert!(lines[1].starts_with("    at resize_image in code"), "{lines:?}");
    assert_eq!(ended.error()["backtrace"][1]["function"], "resize_image");
}

#[test]
fn every_limit_ends_a_run_and_names_its_option() {
    for (words, kind, option) in [
        ("jobs spin --fuel 1M", "fuel", "--fuel"),
        ("jobs spin --timeout 50ms", "timeout", "--timeout"),
        ("jobs spin --cpu 50ms", "cpu", "--cpu"),
        ("jobs hoard --memory 2MiB", "memory", "--memory"),
        ("jobs tabulate --table-elements 5k", "tables", "--table-elements"),
        ("jobs add 1 2 --instances 0", "instances", "--instances"),
        ("jobs recurse", "stack", "--stack"),
        ("jobs zeros 100 --max-result 10", "output-too-large", "--max-result"),
        ("jobs length @- --max-args 10", "args-too-large", "--max-args"),
        ("echo --max-stdout 10", "output-too-large", "--max-stdout"),
        ("echo --max-args 10", "args-too-large", "--max-args"),
        ("task work --max-output 5", "output-too-large", "--max-output"),
        ("task work --log-lines 0", "log-lines", "--log-lines"),
        ("task work --host-calls 2", "host-calls", "--host-calls"),
    ] {
        let ended =
            fails(|| Omniq::run(words).stdin([b'x'; 100]), 10, kind, "hint: raise the limit with");
        assert!(ended.stderr.contains(&format!("`{option}`")), "{words}: {}", ended.stderr);
    }
    let ended = Omniq::run("jobs recurse").end();
    assert!(ended.stderr.contains("at recurse in code"), "{}", ended.stderr);
    assert!(ended.stderr.lines().count() < 6, "calls in a row share a line: {}", ended.stderr);
}

#[test]
fn a_refused_capability_is_named_with_what_grants_it() {
    let ended = fails(|| Omniq::run("world open cache"), 4, "denied", "`--grant-kv cache`");
    assert_eq!(ended.error()["denials"][0]["capability"], "key-value");
    assert_eq!(Omniq::run("world open cache --grant-kv cache").says(), "");
    // A guest that gets over it succeeds, and the refusal is still told.
    let ended = Omniq::run("world try-open cache").end();
    assert_eq!((ended.code, &*ended.text()), (0, "false\n"));
    assert!(ended.stderr.contains("note: the guest was denied key-value"), "{}", ended.stderr);
}

#[test]
fn nothing_of_the_world_is_seen_unless_it_is_granted() {
    says("world environment", "[]");
    let granted = Omniq::run("world environment --grant-env A --grant-env B=2").env("A", "1");
    assert_eq!(granted.says(), "[(\"A\", \"1\"), (\"B\", \"2\")]\n");
    says("world config mode", "none");
    says("world config mode --grant-config mode=a=b", "some(\"a=b\")");
    says("world directories", "0");
    says("world directories --grant-dir . --grant-dir .:/data:rw", "2");
    says("world now --clock 2026-01-31T12:00:00.5Z", "(1769860800, 500000000)");
    says("world now --clock 12.25", "(12, 250000000)");
    let random = |words| Omniq::run(words).says();
    assert_eq!(random("world random --seed 7"), random("world random --seed 7"));
    assert_ne!(random("world random --seed 7"), random("world random --seed 8"));
    assert_ne!(random("world random"), random("world random"));
}

#[test]
fn a_command_gets_stdin_and_gives_stdout_byte_for_byte() {
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    let ended = Omniq::run("echo").stdin(bytes.clone()).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(ended.stdout == bytes, "all of it, unchanged");
    assert_eq!(Omniq::run("echo -- any argument").stdin("x").says(), "x");
}

#[test]
fn a_command_that_fails() {
    fails(|| Omniq::run("both leave"), 9, "exit", "exited instead of returning");
    fails(|| Omniq::run("both --"), 9, "exit", "the command ended with a failure");
    // The failure stands on a line of its own, behind what the command wrote.
    let ended = Omniq::run("echo -o json --max-stdout 3").stdin("abcdef").end();
    assert_eq!(ended.text().lines().next(), Some("abc"));
    assert_eq!(ended.error()["kind"], "output-too-large");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Omniq::run("jobs zeros 8000000").into_command().spawn().unwrap();
    let mut start = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!((&start, ended.code, &*ended.stderr), (b"[0, ", 0, ""));
}

#[test]
fn a_task_tells_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let ended = Omniq::run("task work").end();
    assert_eq!((ended.code, &*ended.text()), (0, "7\n"));
    for line in ["WARN  rows read done=two", "progress 2/4 (50%) two\u{fffd}[31m rows"] {
        assert!(ended.stderr.lines().any(|shown| shown == line), "{line} in {}", ended.stderr);
    }
    assert!(ended.stderr.contains("8 bytes of image/png"), "{}", ended.stderr);

    let output = path.to_str().unwrap();
    assert_eq!(Omniq::run("task fail --output").arg(output).end().code, 12);
    assert!(!path.exists(), "what is incomplete is not kept");
    assert_eq!(Omniq::run("task work --output").arg(output).says(), "7\n");
    assert_eq!(fs::read(&path).unwrap(), b"rowsdone");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "and nothing else is left");
}

/// Runs `task work` with its output going to `path`, and gives what it wrote to stdout.
#[track_caller]
fn works(path: &Path) -> String {
    Omniq::run("task work --output").arg(path).says()
}

#[test]
fn output_keeps_what_stands_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);

    fs::write(path("old"), "old").unwrap();
    fs::set_permissions(path("old"), fs::Permissions::from_mode(0o604)).unwrap();
    symlink("old", path("link")).unwrap();
    works(&path("link"));
    assert!(fs::symlink_metadata(path("link")).unwrap().is_symlink());
    assert_eq!(fs::read(path("old")).unwrap(), b"rowsdone");
    assert_eq!(fs::metadata(path("old")).unwrap().permissions().mode() & 0o777, 0o604);

    // The reader comes first and waits for whoever writes.
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let pipe = path("pipe");
    let reader = thread::spawn(move || fs::read(pipe).unwrap());
    works(&path("pipe"));
    assert_eq!(reader.join().unwrap(), b"rowsdone");
    assert!(fs::symlink_metadata(path("pipe")).unwrap().file_type().is_fifo());

    works(Path::new("/dev/null"));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn output_to_stdout_comes_before_the_result() {
    assert_eq!(works(Path::new("/dev/stdout")), "rowsdone7\n", "a pipe");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both");
    let mut command = Omniq::run("task work --output /dev/stdout").into_command();
    let status = command.stdout(File::create(&path).unwrap()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read(&path).unwrap(), b"rowsdone7\n", "a file");
}

#[test]
fn a_stdin_that_stays_open_holds_nothing_up_for_longer_than_the_timeout() {
    for words in ["echo --timeout 200ms", "jobs length content=@- --timeout 200ms"] {
        let started = Instant::now();
        let mut command = Omniq::run(words).in_json().into_command();
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // Open until the run has ended.
        let stdin = child.stdin.take();
        let ended: Ended = child.wait_with_output().unwrap().into();
        drop(stdin);
        assert_eq!(ended.code, 10, "{words}: {}", ended.stderr);
        assert_eq!(ended.error()["kind"], "timeout");
        assert!(ended.stderr.contains("stdin did not end within 200ms"), "{}", ended.stderr);
        assert!(ended.stderr.contains("< /dev/null"), "{}", ended.stderr);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_component_of_a_million_instances_is_refused_at_once() {
    let mut text = String::from("(core module $m) (core instance (instantiate $m))");
    for _ in 0..23 {
        text = format!(
            "(component $c {text}) (instance (instantiate $c)) (instance (instantiate $c))"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bomb.wat");
    fs::write(&file, format!("(component {text})")).unwrap();
    let run = || Omniq::new(["run", file.to_str().unwrap(), "f"]);
    let started = Instant::now();
    fails(run, 13, "invalid-component", "more than 1000 instances");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn ctrl_c_stops_the_guest() {
    let mut child = Omniq::run("task wait -o json").into_command().spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // By its first line the guest runs, and Ctrl-C is listened to.
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "WARN  rows read done=two\n");
    let sent =
        Command::new("kill").args(["-INT", &child.id().to_string()]).stdout(Stdio::null()).status();
    assert!(sent.unwrap().success());
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 130);
    assert_eq!(ended.error()["kind"], "cancelled");
    assert!(ended.error()["usage"]["fuel"].as_u64() > Some(0), "and is billed");
}

#[test]
fn a_report_says_what_was_used() {
    let ended = Omniq::run("task work --report").end();
    for name in ["fuel", "peak memory", "wall", "cpu", "host calls", "code"] {
        assert!(
            ended.stderr.lines().any(|line| line.starts_with(name)),
            "{name} in {}",
            ended.stderr
        );
    }
    let ended = Omniq::run("world try-open cache --report -o json").end();
    assert_eq!(ended.text(), "false\n", "the report is no data");
    let report: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(report["usage"]["host_calls"], 1);
    assert!(report["usage"]["fuel"].as_u64() > Some(0));
    assert_eq!(report["denials"][0]["target"], "cache");
    let ended = Omniq::run("jobs spin --fuel 1M --report").end();
    assert_eq!(ended.code, 10);
    assert!(
        ended.stderr.contains("1_000_000 of 1_000_000"),
        "failures are billed: {}",
        ended.stderr
    );
}

#[test]
fn a_component_is_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    let code = |option: &str| {
        let run = Omniq::run("jobs add 1 2 --report").env("OMNIQ_CACHE_DIR", folder.path());
        let ended = if option.is_empty() { run.end() } else { run.arg(option).end() };
        assert_eq!((ended.code, &*ended.text()), (0, "3\n"), "{}", ended.stderr);
        let line = ended.stderr.lines().find_map(|line| line.strip_prefix("code "));
        line.expect("the report has it").trim().to_owned()
    };
    assert!(code("--no-cache").starts_with("compiled in"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is kept");
    assert!(code("").starts_with("compiled in"));
    assert_eq!(code(""), "cached");
    assert!(code("--no-cache").starts_with("compiled in"));
}

#[test]
fn a_cache_that_cannot_be_used_is_worth_a_warning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ended = Omniq::run("jobs add 1 2").env("OMNIQ_CACHE_DIR", file.path()).end();
    assert_eq!((ended.code, &*ended.text()), (0, "3\n"));
    assert_eq!(ended.stderr.matches("warning: ").count(), 1, "{}", ended.stderr);
}
