//! `omniq config`, the options and variables it shows, and what other commands make of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::omniq::{Ended, Omniq, wat};

/// A folder to work in, and what `omniq` is told there.
struct Place {
    folder: TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

impl Place {
    /// With an `omniq.toml`, if it is not empty.
    fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if !file.is_empty() {
            fs::write(folder.path().join("omniq.toml"), file)
                .expect("a folder that can be written to");
        }
        Self { folder, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `omniq` there; the words are split at spaces.
    fn omniq(&self, words: &str) -> Ended {
        self.command(words).output().expect("the binary runs").into()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Omniq::new(words.split(' ')).into_command();
        command.current_dir(self.path()).env("HOME", "/home/ada").env_remove("XDG_CACHE_HOME");
        command.env("OMNIQ_CACHE_DIR", "").envs(self.variables.iter().copied());
        command
    }
}

#[track_caller]
fn check(ended: &Ended, code: i32, stderr: &[&str]) {
    assert_eq!(ended.code, code, "{}{}", ended.stderr, ended.text());
    for part in stderr {
        assert!(ended.stderr.contains(part), "`{part}` in: {}", ended.stderr);
    }
    if stderr.is_empty() {
        assert_eq!(ended.stderr, "");
    }
}

/// The fields of the row of a setting in a table.
#[track_caller]
fn row<'a>(table: &'a str, key: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(key));
    let line = line.unwrap_or_else(|| panic!("`{key}` in:\n{table}"));
    line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect()
}

#[test]
fn without_a_word_everything_is_in_a_folder_here() {
    let place = Place::new("");
    let ended = place.omniq("config show --origin");
    check(&ended, 0, &[]);
    let table = ended.text();
    for (key, fields) in [
        ("SETTING", &["SETTING", "VALUE", "ORIGIN"][..]),
        ("tasks.url", &["tasks.url", "sqlite:.omniq/omniq.db", "default"]),
        ("results.url", &["results.url", "sqlite:.omniq/omniq.db", "follows tasks.url"]),
        ("events.url", &["events.url", "sqlite:.omniq/omniq-events.db", "follows tasks.url"]),
        ("workers.max", &["workers.max", "(32 for each processor)", "default"]),
        ("cache.folder", &["cache.folder", "/home/ada/.cache/omniq", "follows HOME"]),
        ("defaults.timeout", &["defaults.timeout", "5m", "default"]),
    ] {
        assert_eq!(row(&table, key), fields);
    }
    assert!(fs::read_dir(place.path()).unwrap().next().is_none(), "showing makes nothing");
    let plain = place.omniq("config show").text();
    assert_eq!(row(&plain, "defaults.timeout"), ["defaults.timeout", "5m"]);
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let place = Place::new("[retry]\nattempts = 7\ncrashes = 8\ndelay = '2s'\n")
        .with("OMNIQ_RETRY_ATTEMPTS", "5")
        .with("OMNIQ_CRASH_BUDGET", "6")
        .with("OMNIQ_RETRY_DELAY", "");
    let ended = place
        .omniq("config show --origin --set retry.attempts=9 --store memory: --log-level debug");
    check(&ended, 0, &[]);
    let table = ended.text();
    for (key, value, origin) in [
        ("retry.attempts", "9", "--set retry.attempts"),
        ("retry.crashes", "6", "OMNIQ_CRASH_BUDGET"),
        ("retry.delay", "2s", "omniq.toml line 4"),
        ("retry.max_delay", "5m", "default"),
        ("tasks.url", "memory:", "--store"),
        ("tasks.type", "memory", "follows tasks.url"),
        ("log.level", "DEBUG", "--log-level"),
    ] {
        assert_eq!(row(&table, key), [key, value, origin]);
    }
}

#[test]
fn json_has_values_as_programs_want_them() {
    let place = Place::new("[defaults]\nttl = '1.5s'\n")
        .with("OMNIQ_COMPONENT_LOG_LEVELS", r#"{"store":"DEBUG"}"#);
    let json = place.omniq("config show -o json").json();
    for (key, value) in [
        ("defaults.timeout", json!(300)),
        ("defaults.ttl", json!(1.5)),
        ("storage.inline_bytes", json!(8192)),
        ("log.level", json!(null)),
        ("log.disable", json!(false)),
        ("log.components", json!({ "store": "DEBUG" })),
        ("workers.pool", json!("async")),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    let json = place.omniq("config show -o json --origin --set retry.crashes=2").json();
    for (key, value) in [
        ("defaults.timeout", json!({ "value": 300, "origin": { "kind": "default" } })),
        (
            "defaults.ttl",
            json!({ "value": 1.5, "origin": { "kind": "file", "path": "omniq.toml", "line": 2 } }),
        ),
        (
            "retry.crashes",
            json!({ "value": 2, "origin": { "kind": "flag", "flag": "--set retry.crashes" } }),
        ),
        (
            "results.url",
            json!({ "value": "sqlite:.omniq/omniq.db", "origin": { "kind": "follows", "key": "tasks.url" } }),
        ),
        (
            "log.components",
            json!({ "value": { "store": "DEBUG" }, "origin": { "kind": "variable", "variable": "OMNIQ_COMPONENT_LOG_LEVELS" } }),
        ),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
}

#[test]
fn the_file_that_is_written_means_the_same() {
    let from = Place::new("")
        .with("OMNIQ_MAX_WORKERS", "12")
        .with("OMNIQ_TASK_TTL", "1h")
        .with("OMNIQ_DATA_DIR", "/d \"x\"");
    let file = from.omniq("config show -o toml --origin");
    check(&file, 0, &[]);
    let to = Place::new(&file.text());
    check(&to.omniq("config check"), 0, &[]);
    assert_eq!(to.omniq("config show").text(), from.omniq("config show").text());
}

#[test]
fn passwords_are_printed_nowhere() {
    let place = Place::new("[results]\nurl = 'redis://:s3cret@cache'\n")
        .with("OMNIQ_TASK_STORAGE_URL", "postgres://ada:s3cret@db/jobs");
    for (words, shown) in [
        ("config show --origin", "postgres://ada:***@db/jobs"),
        ("config show -o json", "redis://:***@cache"),
        ("config show -o toml --set objects.url=s3://b?secret=s3cret", "s3://b?secret=***"),
        ("config check -o json", "\"set\":2"),
        ("config check --store mysql://u:s3cret@h", "mysql://u:***@h"),
        ("config check --set retry.attempts=redis://:s3cret@h", "redis://:***@h"),
    ] {
        let ended = place.omniq(words);
        let text = ended.text() + &ended.stderr;
        assert!(!text.contains("s3cret"), "{words}: {text}");
        assert!(text.contains(shown), "{words}: {text}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_where_they_are() {
    let place = Place::new("[retry]\natempts = 3\n\n[workers]\nmax = 0\n")
        .with("OMNIQ_TASK_TIMEOUT", "soon");
    for words in ["config check", "config show"] {
        let ended = place.omniq(words);
        check(
            &ended,
            2,
            &[
                "error: 3 settings cannot be used\n",
                "`omniq.toml` line 2: there is no setting `retry.atempts`; did you mean `retry.attempts`?",
                "`workers.max` in omniq.toml line 5 cannot be `0`; write a whole number, from 1 to 65536",
                "`OMNIQ_TASK_TIMEOUT` cannot be `soon`; write a time such as `30s`",
                "hint: `omniq help configuration`",
            ],
        );
        assert_eq!(ended.text(), "");
    }
    let error = place.omniq("config check -o json").error();
    assert_eq!(error["kind"], "usage");
    assert!(error["message"].as_str().unwrap().contains("retry.attempts"));
}

#[test]
fn flags_are_checked_as_everything_else() {
    let place = Place::new("");
    for (words, says) in [
        (
            "config check --set retry.crash=3",
            "there is no setting `retry.crash` (--set retry.crash); did you mean `retry.crashes`?",
        ),
        ("config check --set retry.crashes=many", "`--set retry.crashes` cannot be `many`"),
        ("config check --set retry.crashes", "write `KEY=VALUE`"),
        ("config check --log-level loud", "`--log-level` cannot be `loud`; write `DEBUG`"),
        ("config check --store omniq.db", "`--store` is `omniq.db`, whose scheme is not known"),
        ("config check --config none.toml", "`none.toml`, which `--config` names, cannot be read"),
        ("run x.wasm --log-level loud", "`--log-level` cannot be `loud`"),
        ("run x.wasm --set retry.crashes=3", "this command heeds only the settings of the log"),
    ] {
        check(&place.omniq(words), 2, &["error: ", says]);
    }
}

#[test]
fn a_file_is_named_by_a_flag_or_a_variable() {
    let place = Place::new("[retry]\nattempts = 7\n").with("OMNIQ_CONFIG", "other.toml");
    fs::write(place.path().join("other.toml"), "[retry]\nattempts = 8\n").unwrap();
    fs::write(place.path().join("third.toml"), "[retry]\nattempts = 9\n").unwrap();
    let attempts = |words: &str| row(&place.omniq(words).text(), "retry.attempts").join(" ");
    assert_eq!(attempts("config show --origin"), "retry.attempts 8 other.toml line 2");
    assert_eq!(
        attempts("--config third.toml config show --origin"),
        "retry.attempts 9 third.toml line 2"
    );
    assert_eq!(
        attempts("config show --origin --config third.toml"),
        "retry.attempts 9 third.toml line 2"
    );
}

#[test]
fn what_is_not_there_yet_is_an_error_or_a_warning() {
    for (name, value, code, says) in [
        (
            "OMNIQ_DEFAULT_WORKER",
            "gevent",
            2,
            "error: `OMNIQ_DEFAULT_WORKER` asks for the pool `green`",
        ),
        (
            "OMNIQ_DASHBOARD_ENABLED",
            "1",
            0,
            "warning: `OMNIQ_DASHBOARD_ENABLED` asks for the dashboard, which this version does not have yet\n",
        ),
        (
            "OMNIQ_PROCESS_WORKERS",
            "4",
            0,
            "warning: `OMNIQ_PROCESS_WORKERS` asks for the pool `process`",
        ),
        (
            "OMNIQ_TASK_STORAGE_URI",
            "x",
            0,
            "warning: the variable `OMNIQ_TASK_STORAGE_URI` means nothing to OmniQ; did you mean `OMNIQ_TASK_STORAGE_URL`?\n",
        ),
    ] {
        let place = Place::new("").with(name, value);
        check(&place.omniq("config check"), code, &[says]);
        // What cannot be used can be looked at.
        check(&place.omniq("config show"), 0, &["warning: "]);
    }
    let json =
        Place::new("").with("OMNIQ_DASHBOARD_PORT", "90").omniq("config check -o json").json();
    assert_eq!(json["set"], 1);
    assert_eq!(json["warnings"][0]["key"], "dashboard.port");
    let text = Place::new("[retry]\nattempts = 4\n").omniq("config check").text();
    assert!(text.starts_with("good: 1 of "), "{text}");
    assert!(text.ends_with(" settings are set, 0 warnings\n"), "{text}");
}

#[test]
fn a_single_run_needs_no_settings_and_says_what_it_always_said() {
    let place = Place::new("[nonsense]\nx = 1\n")
        .with("OMNIQ_RETRY_ATTEMPTS", "many")
        .with("OMNIQ_XYZZY", "1")
        .with("OMNIQ_LOG_LEVEL", "ERROR");
    let words = format!("run {} add 1 2", wat("jobs"));
    let ended = place.omniq(&words);
    check(&ended, 0, &[]);
    assert_eq!(ended.text(), "3\n");
    check(&place.omniq(&format!("{words} --config omniq.toml")), 0, &[]);
    check(
        &Place::new("").with("OMNIQ_LOG_LEVEL", "loud").omniq(&words),
        2,
        &["`OMNIQ_LOG_LEVEL` cannot be `loud`"],
    );
}

#[test]
fn a_worker_reads_its_log_levels_again_on_a_hangup() {
    let place = Place::new("[log]\nformat = 'json'\n");
    let mut worker = place.command("worker").spawn().expect("the binary starts");
    let stderr = BufReader::new(worker.stderr.take().expect("stderr is piped"));
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in stderr.lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    // The first line of the log that says it; others may come before.
    let wait_for = |message: &str| loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).expect(message);
        match serde_json::from_str::<Value>(&line) {
            Ok(line) if line["message"] == message => return line,
            _ => {}
        }
    };
    let id = worker.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &id]).status().expect("kill runs").success());
    };
    let write = |file: &str| fs::write(place.path().join("omniq.toml"), file).unwrap();

    let line = wait_for("log levels are read again on SIGHUP");
    assert_eq!(line["levels"], "INFO", "{line}");
    assert_eq!(line["target"], "omniq::logging", "{line}");
    write("[log]\nlevel = 'ERROR'\ncomponents = { store = 'DEBUG' }\n");
    signal("-HUP");
    assert_eq!(wait_for("log levels were read again")["levels"], "ERROR, store DEBUG");
    write("[log]\nlevel = 'LOUD'\n");
    signal("-HUP");
    let line = wait_for("log levels stay as they are");
    assert_eq!(line["levels"], "ERROR, store DEBUG", "{line}");
    assert!(
        line["error"].as_str().unwrap().contains("omniq.toml line 2 cannot be `LOUD`"),
        "{line}"
    );
    signal("-TERM");
    assert!(worker.wait().expect("it ends").success());
    reader.join().unwrap();
}

#[test]
fn the_help_lists_every_setting() {
    let help = Omniq::new(["help", "configuration"]).says();
    let shown = Place::new("").omniq("config show -o json").json();
    let keys = shown.as_object().unwrap();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys.keys() {
        assert!(
            help.lines().any(|line| line.starts_with(&format!("{key}  OMNIQ_"))),
            "{key} in {help}"
        );
    }
}
