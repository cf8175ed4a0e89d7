//! Which storages a few words mean.

use super::super::{Config, Origin, Severity, Sources};
use super::value;

fn load(variables: &[(&str, &str)]) -> Result<Config, super::super::Error> {
    Config::load(
        &variables
            .iter()
            .fold(Sources::new(), |sources, (name, value)| sources.variable(name, value)),
    )
}

#[test]
fn what_is_left_out_follows_from_what_is_said() {
    const TASKS: &str = "OMNIQ_TASK_STORAGE_URL";
    const TYPE: &str = "OMNIQ_TASK_STORAGE_TYPE";
    for (variables, tasks, results, events) in [
        (
            &[][..],
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq-events.db",
        ),
        (
            &[("OMNIQ_DATA_DIR", "/d")],
            "sqlite:/d/omniq.db",
            "sqlite:/d/omniq.db",
            "sqlite:/d/omniq-events.db",
        ),
        (
            &[(TASKS, "sqlite:///a/jobs.db")],
            "sqlite:///a/jobs.db",
            "sqlite:///a/jobs.db",
            "sqlite:/a/jobs-events.db",
        ),
        (&[(TASKS, "sqlite:jobs")], "sqlite:jobs", "sqlite:jobs", "sqlite:jobs-events"),
        (&[(TASKS, "memory:")], "memory:", "memory:", "memory:"),
        (&[(TASKS, "memory:jobs")], "memory:jobs", "memory:jobs", "memory:jobs"),
        (&[(TYPE, "memory")], "memory:", "memory:", "memory:"),
        (
            &[(TYPE, "sqlite")],
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq-events.db",
        ),
        (
            &[(TYPE, "sqlite"), (TASKS, "a/b.db")],
            "sqlite:a/b.db",
            "sqlite:a/b.db",
            "sqlite:a/b-events.db",
        ),
        (
            &[(TYPE, "sqlite"), (TASKS, "sqlite:x.db")],
            "sqlite:x.db",
            "sqlite:x.db",
            "sqlite:x-events.db",
        ),
        (&[(TYPE, "file"), (TASKS, "a/b")], "file:a/b", "file:a/b", "sqlite:a/b/events.db"),
        (
            &[(TASKS, "postgres://h/d")],
            "postgres://h/d",
            "postgres://h/d",
            "sqlite:.omniq/events.db",
        ),
        (
            &[("OMNIQ_RESULT_STORAGE_TYPE", "sqlite")],
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq-events.db",
        ),
        (
            &[(TASKS, "memory:"), ("OMNIQ_RESULT_STORAGE_TYPE", "sqlite")],
            "memory:",
            "sqlite:.omniq/results.db",
            "memory:",
        ),
        (
            &[("OMNIQ_RESULT_STORAGE_URL", "memory:")],
            "sqlite:.omniq/omniq.db",
            "memory:",
            "sqlite:.omniq/omniq-events.db",
        ),
        (
            &[(TASKS, "memory:"), ("OMNIQ_EVENT_STORAGE_TYPE", "sqlite")],
            "memory:",
            "memory:",
            "sqlite:.omniq/events.db",
        ),
        (
            &[("OMNIQ_EVENT_STORAGE_URL", "sqlite:e.db")],
            "sqlite:.omniq/omniq.db",
            "sqlite:.omniq/omniq.db",
            "sqlite:e.db",
        ),
    ] {
        let config = load(variables).unwrap_or_else(|error| panic!("{variables:?}: {error}"));
        let found = ["tasks.url", "results.url", "events.url"].map(|key| value(&config, key));
        assert_eq!(found, [tasks, results, events], "{variables:?}");
        for storage in [&config.tasks, &config.results, &config.events] {
            assert_eq!(storage.url.kind(), Some(storage.kind), "{variables:?}");
        }
    }
}

#[test]
fn what_follows_says_whom() {
    let config = load(&[("OMNIQ_DATA_DIR", "/d")]).unwrap();
    for (key, expected) in [
        ("tasks.url", Origin::Follows("data.folder")),
        ("results.url", Origin::Follows("tasks.url")),
        ("results.type", Origin::Follows("tasks.type")),
        ("events.url", Origin::Follows("tasks.url")),
        ("events.type", Origin::Follows("tasks.type")),
        ("tasks.type", Origin::Default),
    ] {
        assert_eq!(config.origin(key), expected, "{key}");
    }
}

#[test]
fn what_contradicts_or_names_nothing_is_refused() {
    for (variables, says) in [
        (
            &[("OMNIQ_TASK_STORAGE_TYPE", "redis"), ("OMNIQ_TASK_STORAGE_URL", "sqlite:x.db")][..],
            "`OMNIQ_TASK_STORAGE_TYPE` says `redis`, but `OMNIQ_TASK_STORAGE_URL` is `sqlite:x.db`, which is `sqlite`",
        ),
        (
            &[("OMNIQ_TASK_STORAGE_TYPE", "postgres")],
            "`OMNIQ_TASK_STORAGE_TYPE` says `postgres`, which needs an address: set `OMNIQ_TASK_STORAGE_URL`",
        ),
        (
            &[("OMNIQ_TASK_STORAGE_URL", "mysql://u:pw@h/d")],
            "`OMNIQ_TASK_STORAGE_URL` is `mysql://u:***@h/d`, whose scheme is not known",
        ),
        (
            &[("OMNIQ_TASK_STORAGE_URL", "omniq.db")],
            "whose scheme is not known; write `sqlite:PATH`",
        ),
        (&[("OMNIQ_TASK_STORAGE_URL", "sqlite:")], "names no file"),
        (
            &[("OMNIQ_TASK_STORAGE_URL", "sqlite::memory:")],
            "names no file; write `sqlite:PATH`, or `memory:`",
        ),
        (&[("OMNIQ_TASK_STORAGE_URL", "sqlite:x.db?mode=ro")], "takes no options after a `?`"),
        (
            &[("OMNIQ_TASK_STORAGE_TYPE", "redis"), ("OMNIQ_TASK_STORAGE_URL", "host:6379")],
            "whose scheme is not known",
        ),
        (
            &[("OMNIQ_TASK_STORAGE_TYPE", "mongo")],
            "`OMNIQ_TASK_STORAGE_TYPE` cannot be `mongo`; write `file`, `memory`",
        ),
        (
            &[("OMNIQ_EVENT_STORAGE_TYPE", "memory")],
            "`OMNIQ_EVENT_STORAGE_TYPE` asks for events in `memory`, but events live in `sqlite`, `postgres` or `file`",
        ),
        (
            &[("OMNIQ_EVENT_STORAGE_URL", "nats://h")],
            "`OMNIQ_EVENT_STORAGE_URL` asks for events in `nats`",
        ),
        (
            &[("OMNIQ_OBSTORE_URI", "mysql://u:pw@h")],
            "`OMNIQ_OBSTORE_URI` cannot be `mysql://u:***@h`; write `file:///path`",
        ),
        (&[("OMNIQ_OBSTORE_URI", "bucket")], "`OMNIQ_OBSTORE_URI` cannot be `bucket`"),
    ] {
        let error = load(variables).expect_err(says).to_string();
        assert!(error.contains(says), "{variables:?}: {error}");
    }
}

#[test]
fn what_is_not_there_yet_is_said_where_it_takes_effect() {
    use Severity::{Error, Warning};
    for (variables, expected) in [
        (&[][..], &[][..]),
        (&[("OMNIQ_TASK_STORAGE_URL", "memory:"), ("OMNIQ_OBSTORE_URI", "memory://")], &[]),
        (
            &[
                ("OMNIQ_DEFAULT_WORKER", "thread"),
                ("OMNIQ_THREAD_WORKERS", "2"),
                ("OMNIQ_MAX_WORKERS", "4"),
            ],
            &[],
        ),
        #[cfg(not(feature = "postgres"))]
        (
            &[("OMNIQ_TASK_STORAGE_URL", "postgres://u:pw@h/d")],
            &[(
                Error,
                "`OMNIQ_TASK_STORAGE_URL` asks for tasks in `postgres`, which this version does not have yet",
            )],
        ),
        #[cfg(not(feature = "redis"))]
        (
            &[("OMNIQ_RESULT_STORAGE_URL", "redis://h")],
            &[(Error, "`OMNIQ_RESULT_STORAGE_URL` asks for results in `redis`")],
        ),
        #[cfg(not(feature = "nats"))]
        (&[("OMNIQ_RESULT_STORAGE_URL", "nats://h")], &[(Error, "asks for results in `nats`")]),
        #[cfg(not(feature = "object"))]
        (
            &[("OMNIQ_EVENT_STORAGE_URL", "file:///e")],
            &[(Error, "`OMNIQ_EVENT_STORAGE_URL` asks for events in `file`")],
        ),
        #[cfg(not(feature = "object"))]
        (&[("OMNIQ_TASK_STORAGE_URL", "s3://b")], &[(Error, "asks for tasks in `file`")]),
        #[cfg(not(feature = "object"))]
        (
            &[("OMNIQ_OBSTORE_URI", "s3://b")],
            &[(Error, "`OMNIQ_OBSTORE_URI` asks for modules in `s3://b`")],
        ),
        (&[("OMNIQ_OBSTORE_URI", "memory://")], &[]),
        (
            &[("OMNIQ_DEFAULT_WORKER", "gevent")],
            &[(Error, "`OMNIQ_DEFAULT_WORKER` asks for the pool `green`")],
        ),
        (&[("OMNIQ_DEFAULT_WORKER", "process")], &[(Error, "asks for the pool `process`")]),
        (
            &[("OMNIQ_PROCESS_WORKERS", "2")],
            &[(Warning, "`OMNIQ_PROCESS_WORKERS` asks for the pool `process`")],
        ),
        (
            &[("OMNIQ_GREEN_WORKERS", "2")],
            &[(Warning, "`OMNIQ_GREEN_WORKERS` asks for the pool `green`")],
        ),
        (
            &[("OMNIQ_DASHBOARD_ENABLED", "1"), ("OMNIQ_DASHBOARD_PORT", "80")],
            &[
                (
                    Warning,
                    "`OMNIQ_DASHBOARD_ENABLED` asks for the dashboard, which this version does not have yet",
                ),
                (Warning, "`OMNIQ_DASHBOARD_PORT` asks for a port of the dashboard"),
            ],
        ),
        (&[("OMNIQ_DASHBOARD_ENABLED", "0")], &[]),
    ] {
        let config = load(variables).unwrap_or_else(|error| panic!("{variables:?}: {error}"));
        let notices = config.unsupported();
        assert_eq!(notices.len(), expected.len(), "{variables:?}: {notices:?}");
        for (notice, (severity, says)) in notices.iter().zip(expected) {
            assert_eq!(notice.severity, *severity, "{notice}");
            assert!(notice.text.starts_with('`') && notice.text.contains(says), "{notice}");
            assert!(!notice.text.contains("pw"), "{notice}");
        }
        let has_errors = expected.iter().any(|(severity, _)| *severity == Error);
        assert_eq!(config.supported().is_err(), has_errors, "{variables:?}");
    }
}
