//! Every variable sets its setting, and precedence is as promised.

use std::path::PathBuf;

use super::super::table::ROWS;
use super::super::{Config, Durability, Log, Origin, Pool, Sources, StorageKind};
use super::{sources, value};
use crate::logging::{Component, Level, LogFormat};

/// A variable with a value that differs from the default, and how the setting is shown then.
const ROWS_OF_VARIABLES: &[(&str, &str, &str, &str)] = &[
    ("OMNIQ_DATA_DIR", "/var/lib/omniq", "data.folder", "/var/lib/omniq"),
    ("OMNIQ_LOG_LEVEL", "debug", "log.level", "DEBUG"),
    ("OMNIQ_DISABLE_LOGGING", "1", "log.disable", "true"),
    (
        "OMNIQ_COMPONENT_LOG_LEVELS",
        r#"{"store": "DEBUG"}"#,
        "log.components",
        r#"{"store":"DEBUG"}"#,
    ),
    ("OMNIQ_LOG_FORMAT", "json", "log.format", "json"),
    ("OMNIQ_TASK_STORAGE_TYPE", "memory", "tasks.type", "memory"),
    ("OMNIQ_TASK_STORAGE_URL", "postgres://db/jobs", "tasks.url", "postgres://db/jobs"),
    ("OMNIQ_RESULT_STORAGE_TYPE", "memory", "results.type", "memory"),
    ("OMNIQ_RESULT_STORAGE_URL", "redis://cache", "results.url", "redis://cache"),
    ("OMNIQ_EVENT_STORAGE_TYPE", "sqlite", "events.type", "sqlite"),
    ("OMNIQ_EVENT_STORAGE_URL", "file:///var/events", "events.url", "file:///var/events"),
    ("OMNIQ_OBSTORE_URI", "s3://bucket", "objects.url", "s3://bucket"),
    ("OMNIQ_DURABILITY", "os", "storage.durability", "os"),
    ("OMNIQ_RESULT_INLINE_SIZE", "64KiB", "storage.inline_bytes", "64KiB"),
    ("OMNIQ_STORAGE_DEADLINE", "3s", "storage.deadline", "3s"),
    ("OMNIQ_DEFAULT_WORKER", "thread", "workers.pool", "thread"),
    ("OMNIQ_MAX_WORKERS", "7", "workers.max", "7"),
    ("OMNIQ_THREAD_WORKERS", "3", "workers.threads", "3"),
    ("OMNIQ_PROCESS_WORKERS", "2", "workers.processes", "2"),
    ("OMNIQ_GEVENT_WORKERS", "500", "workers.green", "500"),
    ("OMNIQ_GREEN_WORKERS", "501", "workers.green", "501"),
    ("OMNIQ_LEASE_TIME", "20", "workers.lease", "20s"),
    ("OMNIQ_SHUTDOWN_GRACE", "0", "workers.shutdown_grace", "0"),
    ("OMNIQ_CLAIM_BYTES", "2MiB", "workers.claim_bytes", "2MiB"),
    ("OMNIQ_CLAIM_BATCH", "16", "workers.batch", "16"),
    ("OMNIQ_TASK_TIMEOUT", "90", "defaults.timeout", "90s"),
    ("OMNIQ_TASK_TTL", "3600", "defaults.ttl", "1h"),
    ("OMNIQ_RETRY_ATTEMPTS", "5", "retry.attempts", "5"),
    ("OMNIQ_RETRY_DELAY", "2.5", "retry.delay", "2500ms"),
    ("OMNIQ_RETRY_MAX_DELAY", "10m", "retry.max_delay", "10m"),
    ("OMNIQ_CRASH_BUDGET", "1", "retry.crashes", "1"),
    ("OMNIQ_RESULT_TTL", "60", "retention.results", "1m"),
    ("OMNIQ_HISTORY_TTL", "30d", "retention.history", "30d"),
    ("OMNIQ_LIMIT_FUEL", "5e9", "limits.fuel", "5G"),
    ("OMNIQ_LIMIT_MEMORY", "64MiB", "limits.memory", "64MiB"),
    ("OMNIQ_LIMIT_CPU", "10", "limits.cpu", "10s"),
    ("OMNIQ_CACHE_DIR", "/var/cache/omniq", "cache.folder", "/var/cache/omniq"),
    ("OMNIQ_CACHE_SIZE", "64MiB", "cache.size", "64MiB"),
    ("OMNIQ_DASHBOARD_PORT", "9000", "dashboard.port", "9000"),
    ("OMNIQ_DASHBOARD_ENABLED", "true", "dashboard.enabled", "true"),
];

#[test]
fn every_variable_sets_its_setting_and_is_its_origin() {
    let default = Config::default();
    for (variable, text, key, shown) in ROWS_OF_VARIABLES {
        let config = Config::load(&Sources::new().variable(variable, text))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(value(&config, key), *shown, "{variable}");
        assert_eq!(config.origin(key), Origin::Variable((*variable).to_owned()), "{variable}");
        assert!(config.warnings.is_empty(), "{variable} is known");
        // The type of events goes with their default; every other row must show a change.
        if *key != "events.type" {
            assert_ne!(value(&default, key), *shown, "{variable} shows nothing");
        }
    }
    let tested: Vec<_> = ROWS_OF_VARIABLES.iter().map(|row| row.0).collect();
    for variable in ROWS.iter().flat_map(|row| row.variables) {
        assert!(tested.contains(variable), "{variable} has no row here");
    }
}

/// The variables that other task queues of this family have, which must go on working.
#[test]
fn the_variables_that_were_promised_are_all_there() {
    let promised = "LOG_LEVEL DISABLE_LOGGING TASK_STORAGE_TYPE TASK_STORAGE_URL RESULT_STORAGE_TYPE RESULT_STORAGE_URL \
        EVENT_STORAGE_TYPE EVENT_STORAGE_URL OBSTORE_URI DEFAULT_WORKER MAX_WORKERS THREAD_WORKERS PROCESS_WORKERS \
        GEVENT_WORKERS TASK_TIMEOUT TASK_TTL RETRY_ATTEMPTS RETRY_DELAY RESULT_TTL DASHBOARD_PORT DASHBOARD_ENABLED \
        COMPONENT_LOG_LEVELS";
    let promised: Vec<_> = promised.split_whitespace().collect();
    assert_eq!(promised.len(), 22);
    for name in promised {
        let name = format!("OMNIQ_{name}");
        assert!(ROWS.iter().any(|row| row.variables.contains(&&*name)), "{name}");
    }
}

#[test]
fn a_value_is_the_same_from_a_variable_a_flag_and_a_file() {
    for (variable, text, key, shown) in ROWS_OF_VARIABLES {
        let flag = Sources::new().flag("--set", key, *text);
        assert_eq!(value(&Config::load(&flag).unwrap(), key), *shown, "{variable} as a flag");
        let (section, name) = key.split_once('.').unwrap();
        let file = format!("# a file\n[{section}]\n{name} = '{text}'\n");
        let (sources, folder) = sources(&[], &file);
        let config = Config::load(&sources).unwrap();
        assert_eq!(value(&config, key), *shown, "{variable} in a file");
        let origin = Origin::File { path: folder.path().join("omniq.toml"), line: 3 };
        assert_eq!(config.origin(key), origin, "{variable} in a file");
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let (sources, _folder) = sources(
        &[
            ("OMNIQ_RETRY_ATTEMPTS", "5"),
            ("OMNIQ_RETRY_DELAY", "4"),
            ("OMNIQ_LEASE_TIME", ""),
            ("OMNIQ_TASK_TTL", "  "),
        ],
        "[retry]\nattempts = 7\ndelay = 6\ncrashes = 8\n[workers]\nlease = 30\n[defaults]\nttl = ''\n",
    );
    let sources =
        sources.flag("--retries", "retry.attempts", "8").flag("--retries", "retry.attempts", "9");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.retry.attempts.get(), 9);
    assert_eq!(config.origin("retry.attempts"), Origin::Flag(String::from("--retries")));
    assert_eq!(value(&config, "retry.delay"), "4s");
    assert_eq!(config.retry.crashes.get(), 8);
    assert_eq!(value(&config, "workers.lease"), "30s", "an empty variable counts as unset");
    assert_eq!(config.defaults.ttl, None, "so does an empty value of a file");
    assert_eq!(config.origin("defaults.ttl"), Origin::Default);
    assert_eq!(config.origin("retry.max_delay"), Origin::Default);
}

#[test]
fn values_have_their_types() {
    let (sources, _folder) = sources(
        &[
            ("OMNIQ_DEFAULT_WORKER", "gevent"),
            ("OMNIQ_DURABILITY", "NONE"),
            ("OMNIQ_TASK_STORAGE_TYPE", "Redis"),
            ("OMNIQ_TASK_STORAGE_URL", "redis://h"),
            ("HOME", "/home/ada"),
        ],
        "[log]\nlevel = 'warning'\nformat = 'json'\ncomponents = { store = 'DEBUG' }\n[workers]\nmax = 12\n",
    );
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.workers.pool, Pool::Green);
    assert_eq!(omniq_model::Pool::from(config.workers.pool), omniq_model::Pool::Green);
    assert_eq!(config.storage.durability, Durability::None);
    assert_eq!(config.tasks.kind, StorageKind::Redis);
    assert_eq!(config.log.level, Some(Level::Warning));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.components.0[&Component::Store], Level::Debug);
    assert_eq!(config.workers.slots(2.try_into().unwrap()).get(), 12);
    assert_eq!(Config::default().workers.slots(2.try_into().unwrap()).get(), 64);
    assert_eq!(config.workers.thread_count(2.try_into().unwrap()).get(), 2);
    assert_eq!(config.workers.heartbeat().as_secs(), 5);
    assert_eq!(config.cache.code_folder(), Some(PathBuf::from("/home/ada/.cache/omniq/code")));
    assert_eq!(config.origin("cache.folder"), Origin::Follows("HOME"));
}

#[test]
fn compiled_code_lies_where_the_user_keeps_caches() {
    for (variables, expected) in [
        (&[("OMNIQ_CACHE_DIR", "here"), ("HOME", "/h")][..], Some("here/code")),
        (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/omniq/code")),
        (&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")], Some("/h/.cache/omniq/code")),
        (&[("OMNIQ_CACHE_DIR", ""), ("HOME", "/h")], Some("/h/.cache/omniq/code")),
        (&[("HOME", "")], None),
        (&[], None),
    ] {
        let config = Config::load(&sources(variables, "").0).unwrap();
        assert_eq!(config.cache.code_folder(), expected.map(PathBuf::from), "{variables:?}");
    }
}

#[test]
fn a_file_is_named_by_a_flag_or_a_variable_or_lies_there() {
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), "[retry]\nattempts = 7\n").unwrap();
    let (sources, folder) = sources(&[], "[retry]\nattempts = 8\n");
    let attempts = |sources: &Sources| Config::load(sources).unwrap().retry.attempts.get();
    assert_eq!(attempts(&sources), 8);
    let by_variable = sources.clone().variable("OMNIQ_CONFIG", named.path());
    assert_eq!(attempts(&by_variable), 7);
    assert_eq!(attempts(&sources.clone().variable("OMNIQ_CONFIG", "")), 8);
    assert_eq!(
        attempts(&by_variable.clone().file(folder.path().join("omniq.toml"))),
        8,
        "a flag is stronger"
    );
    assert_eq!(attempts(&by_variable.without_file()), 3);
    let missing = sources.variable("OMNIQ_CONFIG", "/no/such/file.toml");
    let error = Config::load(&missing).unwrap_err().to_string();
    assert!(error.contains("`/no/such/file.toml`, which `OMNIQ_CONFIG` names,"), "{error}");
}

#[test]
fn the_log_alone_leaves_the_mistakes_of_others() {
    let (sources, _folder) = sources(
        &[("OMNIQ_RETRY_ATTEMPTS", "many")],
        "[rtry]\n[retry]\ndelay = 'x'\n[log]\nlevel = 'ERROR'\n",
    );
    assert_eq!(Log::load(&sources).unwrap().level, Some(Level::Error));
    assert_eq!(Config::load(&sources).unwrap_err().problems.len(), 3);
    let error = Log::load(&sources.variable("OMNIQ_LOG_LEVEL", "loud")).unwrap_err().to_string();
    assert!(error.starts_with("`OMNIQ_LOG_LEVEL` cannot be `loud`; write `DEBUG`"), "{error}");
}
