//! Bad values, wherever they come from: an error that names the value, its origin and what is allowed, and never a panic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::super::table::ROWS;
use super::super::{Config, Sources};
use super::sources;

#[test]
fn each_bad_value_names_itself_its_origin_and_what_is_allowed() {
    for (variable, text, says) in [
        ("OMNIQ_LOG_LEVEL", "loud", "write `DEBUG`, `INFO`, `WARNING`, `ERROR` or `DISABLED`"),
        ("OMNIQ_DISABLE_LOGGING", "yes", "write `true` or `1`, `false` or `0`"),
        (
            "OMNIQ_COMPONENT_LOG_LEVELS",
            r#"{"stor":"DEBUG"}"#,
            "there is no component `stor`; did you mean `store`?",
        ),
        ("OMNIQ_LOG_FORMAT", "xml", "write `text` or `json`"),
        ("OMNIQ_TASK_STORAGE_TYPE", "mysql", "write `file`, `memory`, `sqlite`"),
        (
            "OMNIQ_DEFAULT_WORKER",
            "fiber",
            "write `async`, `thread`, `process` or `green` (alias `gevent`)",
        ),
        ("OMNIQ_DURABILITY", "high", "write `disk`, `os` or `none`"),
        (
            "OMNIQ_RESULT_INLINE_SIZE",
            "2MiB",
            "it is too much; write a size such as `65536`, `64KiB` or `1.5GiB`, from 0 to 1MiB",
        ),
        ("OMNIQ_MAX_WORKERS", "0", "write a whole number, from 1 to 65536"),
        ("OMNIQ_MAX_WORKERS", "65537", "it is too much"),
        ("OMNIQ_MAX_WORKERS", "-3", "write a whole number"),
        ("OMNIQ_MAX_WORKERS", "99999999999999999999", "write a whole number"),
        ("OMNIQ_THREAD_WORKERS", "two", "write a whole number, from 1 to 4096"),
        ("OMNIQ_PROCESS_WORKERS", "1.5", "write a whole number"),
        ("OMNIQ_GREEN_WORKERS", "x", "write a whole number"),
        (
            "OMNIQ_LEASE_TIME",
            "0.5",
            "it is too little; write a time such as `30s`, `5m`, `500ms`, or a number of seconds, from 1s to 1h",
        ),
        ("OMNIQ_LEASE_TIME", "2h", "it is too much"),
        ("OMNIQ_SHUTDOWN_GRACE", "never", "write a time"),
        ("OMNIQ_CLAIM_BYTES", "1KiB", "from 1MiB to 64GiB"),
        ("OMNIQ_CLAIM_BATCH", "1001", "from 1 to 1000"),
        ("OMNIQ_TASK_TIMEOUT", "0", "it is too little"),
        ("OMNIQ_TASK_TIMEOUT", "-5", "write a time such as `30s`"),
        ("OMNIQ_TASK_TTL", "5 weeks", "write a time"),
        ("OMNIQ_RETRY_ATTEMPTS", "0", "write a whole number, from 1 to 1000"),
        ("OMNIQ_RETRY_DELAY", "inf", "write a time"),
        ("OMNIQ_RESULT_TTL", "1e30", "write a time"),
        ("OMNIQ_LIMIT_MEMORY", "8GiB", "from 64KiB to 4GiB"),
        ("OMNIQ_LIMIT_FUEL", "0", "it is too little"),
        ("OMNIQ_DASHBOARD_PORT", "65536", "write a whole number"),
        ("OMNIQ_DASHBOARD_PORT", "0", "write a whole number"),
        ("OMNIQ_DASHBOARD_ENABLED", "on", "write `true` or `1`"),
        ("OMNIQ_TASK_STORAGE_URL", "postgres://u:secret@h\u{7}", "it holds control characters"),
    ] {
        let row = ROWS.iter().find(|row| row.variables.contains(&variable)).unwrap();
        let (section, name) = row.key.split_once('.').unwrap();
        let quoted = serde_json::Value::from(text);
        let (from_file, folder) = sources(&[], &format!("\n[{section}]\n{name} = {quoted}\n"));
        let line = format!(
            "`{}` in {} line 3 cannot be `",
            row.key,
            folder.path().join("omniq.toml").display()
        );
        for (sources, begins) in [
            (Sources::new().variable(variable, text), format!("`{variable}` cannot be `")),
            (Sources::new().flag("--flag", row.key, text), String::from("`--flag` cannot be `")),
            (from_file, line),
        ] {
            let error = Config::load(&sources).expect_err(text).to_string();
            assert!(error.starts_with(&begins), "{variable}={text}: {error}");
            assert!(error.contains(says), "{variable}={text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let (sources, _folder) = sources(
        &[("OMNIQ_TASK_TIMEOUT", "soon")],
        "[retry]\nattempts = 0\natempts = 1\n[workrs]\n",
    );
    let error = Config::load(&sources.flag("--set", "retry.crash", "3")).unwrap_err();
    assert_eq!(error.problems.len(), 5, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("5 settings cannot be used\n  "), "{text}");
    assert!(
        text.contains("there is no setting `retry.crash` (--set); did you mean `retry.crashes`?"),
        "{text}"
    );
}

#[test]
fn values_that_contradict_are_refused() {
    for (variables, says) in [
        (
            [("OMNIQ_GEVENT_WORKERS", "3"), ("OMNIQ_GREEN_WORKERS", "4")],
            "`OMNIQ_GEVENT_WORKERS` is `3` and `OMNIQ_GREEN_WORKERS` is `4`, but they are two names of one setting",
        ),
        (
            [("OMNIQ_RETRY_DELAY", "60"), ("OMNIQ_RETRY_MAX_DELAY", "30")],
            "`OMNIQ_RETRY_DELAY` is 1m, which is more than `OMNIQ_RETRY_MAX_DELAY`, 30s",
        ),
    ] {
        let error = Config::load(&sources(&variables, "").0).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let same = [("OMNIQ_GEVENT_WORKERS", "3"), ("OMNIQ_GREEN_WORKERS", "3")];
    assert!(Config::load(&sources(&same, "").0).is_ok());
}

#[test]
fn variables_nobody_reads_are_warned_about_with_the_nearest_name() {
    for (variable, hint) in [
        ("OMNIQ_TASK_STORAGE_URI", Some("did you mean `OMNIQ_TASK_STORAGE_URL`?")),
        ("OMNIQ_LOGLEVEL", Some("did you mean `OMNIQ_LOG_LEVEL`?")),
        ("OMNIQ_CONFG", Some("did you mean `OMNIQ_CONFIG`?")),
        ("OMNIQ_GREEN_WORKER", Some("did you mean `OMNIQ_GREEN_WORKERS`?")),
        ("OMNIQ_XYZZY", Some("`omniq help configuration` lists all there are")),
        ("OMNIQ_BINARY", None),
        ("OMNIQ_TEST_ANYTHING", None),
        ("OMNIQ_FAILPOINT", None),
        ("OMNIQ_CONFIG", None),
        ("omniq_log_level", None),
        ("PATH", None),
    ] {
        let config = Config::load(&Sources::new().variable(variable, "x")).unwrap();
        match (hint, config.warnings.as_slice()) {
            (None, []) => {}
            (Some(hint), [notice]) => {
                assert!(notice.text.contains(variable) && notice.text.contains(hint), "{notice}");
            }
            (_, warnings) => panic!("{variable}: {warnings:?}"),
        }
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("omniq.toml");
    let load = || Config::load(&Sources::new().folder(folder.path())).unwrap_err().to_string();
    std::fs::write(&path, b"# fine\n\xff\xfe").unwrap();
    assert!(load().contains("line 2 is not UTF-8"), "{}", load());
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(load().contains("larger than 1 MiB"), "{}", load());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(load().contains("cannot be read"), "{}", load());
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let sources = Sources::new().variable("OMNIQ_RETRY_ATTEMPTS", OsString::from_vec(vec![0xff]));
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(error.contains("`OMNIQ_RETRY_ATTEMPTS` holds bytes that are not UTF-8"), "{error}");
}

#[test]
fn defaults_and_ranges_read() {
    // `Config::default` reads every default; every range is read only where a value is given.
    let default = Config::default();
    for row in ROWS.iter().filter(|row| row.range.is_some()) {
        let (from, to) = row.range.unwrap();
        for text in [from, to] {
            let sources =
                Sources::new().flag("--set", row.key, text).flag("--set", "retry.delay", "0");
            let loaded = Config::load(&sources);
            assert!(loaded.is_ok(), "{} = {text}: {loaded:?}", row.key);
        }
    }
    assert!(default.warnings.is_empty());
}

proptest! {
    #[test]
    fn no_text_makes_a_panic(index in 0..ROWS.len(), text in "\\PC*") {
        let _ = Config::load(&Sources::new().flag("--set", ROWS[index].key, text));
    }

    #[test]
    fn no_file_makes_a_panic(text in "(\\[(log|tasks|retry|x)\\]\n|(level|url|delay|x) = ([0-9a-z'\"{\\[-]*)\n|\\PC)*") {
        let _ = Config::load(&sources(&[], &text).0);
    }
}
