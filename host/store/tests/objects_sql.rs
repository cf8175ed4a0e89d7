//! Events in files, asked in SQL: by SQLite, by DuckDB, and by a DuckDB of the user's own.
#![cfg(all(feature = "object", feature = "sqlite"))]

use std::process::Command;
use std::time::Duration;

use omniq_model::{EventKind, Kind, Lane, SessionId, TaskError, TaskEvent, TaskId, Timestamp};
use omniq_store::object::events::{Cell, Engine, EventOptions, Question};
use omniq_store::object::{ObjectEvents, Root};
use omniq_store::{Durability, ErrorKind, EventFilter, EventStore as _};

/// 2023-11-14, 22:59:58.
const START: Timestamp = Timestamp::from_millis(1_700_002_798_000);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn event(task: u8, fence: u64, kind: EventKind, at: Timestamp) -> TaskEvent {
    let failed = matches!(kind, EventKind::Failed | EventKind::Retrying);
    TaskEvent {
        task: TaskId::derived(&[&[task]]),
        fence,
        kind,
        at,
        lane: Lane {
            tenant: "acme".parse().expect("a name"),
            queue: "media".parse().expect("a name"),
        },
        attempt: 1,
        session: (fence > 0).then(|| SessionId::new(7)),
        error: failed.then(|| Box::new(TaskError::new(Kind::Trap, "it's \"out\" of bounds"))),
        micros: u64::from(task) * 1000,
        missing: 0,
        what: "resize.thumb".into(),
        began: None,
        unknown: Default::default(),
    }
}

/// Ten tasks, of which every third fails, over two hours; and what was written twice.
fn events() -> Vec<TaskEvent> {
    let story = |task: u8| {
        let at = START + SECOND * u32::from(task) * 400;
        let end = if task.is_multiple_of(3) { EventKind::Failed } else { EventKind::Succeeded };
        [
            event(task, 0, EventKind::Enqueued, at),
            event(task, 1, EventKind::Started, at + SECOND),
            event(task, 1, end, at + SECOND * 3),
        ]
    };
    (0..10).flat_map(story).collect()
}

/// The same ends as a repair writes them: by another clock, some of them in the next hour.
fn repaired() -> Vec<TaskEvent> {
    let ends =
        events().into_iter().filter(|event| event.fence == 1 && event.kind != EventKind::Started);
    ends.map(|event| TaskEvent { at: event.at + SECOND * 5, ..event }).collect()
}

async fn store(folder: &tempfile::TempDir) -> ObjectEvents {
    let root = Root::folder(folder.path(), Durability::Os).expect("the folder can be used");
    let store = ObjectEvents::new(root);
    store.append(events()).await.expect("a folder takes events");
    store.close().await.expect("a folder takes events");
    store.append(repaired()).await.expect("a folder takes events");
    store.close().await.expect("a folder takes events");
    store
}

fn question(sql: &str) -> Question {
    Question { sql: sql.to_owned(), from: None, to: None, max: 1000 }
}

/// Questions that any engine is to answer alike, and how many rows they give.
const QUESTIONS: [(&str, usize); 8] = [
    ("select * from events order by task, fence, kind", 30),
    (
        "select kind, count(*) as n, sum(micros) as micros from events group by kind order by kind",
        4,
    ),
    ("select task, ts from events where kind = 'failed' order by ts", 4),
    (
        "select error_kind, error, count(*) as n from events where error is not null group by 1, 2",
        1,
    ),
    (
        "with ends as (select * from events where kind in ('failed', 'succeeded')) select max(ms) as last from ends",
        1,
    ),
    ("select avg(micros) as mean, min(session) as session, null as empty from events", 1),
    (
        "select substr(ts, 1, 13) as hour, count(distinct task) as tasks from events group by 1 order by 1",
        3,
    ),
    ("select fence > 0 as begun, count(*) as n from events group by 1 order by 1", 2),
];

#[tokio::test]
async fn sqlite_answers_over_the_hours_that_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    for (sql, rows) in QUESTIONS {
        let answer = store.ask(Engine::Sqlite, &question(sql)).await.unwrap();
        assert_eq!((answer.rows.len(), answer.cut), (rows, false), "{sql}");
    }
    let count = "select count(*) as n, min(ms) as first from events";
    let all = store.ask(Engine::Sqlite, &question(count)).await.unwrap();
    assert_eq!(all.columns, ["n", "first"]);
    assert_eq!(all.rows, [[Cell::Integer(30), Cell::Integer(START.as_millis())]]);
    for (from, to, expected) in [
        (None, Some(START), 0),
        (None, Some(START + SECOND), 1),
        (Some(START + SECOND), None, 29),
        // An end at 23:00:01 that was written again at 23:00:06.
        (Some(START + SECOND * 4), Some(START + SECOND * 60), 0),
        (Some(START + HOUR * 9), None, 0),
    ] {
        let asked = Question { from, to, ..question(count) };
        let answer = store.ask(Engine::Sqlite, &asked).await.unwrap();
        assert_eq!(answer.rows[0][0], Cell::Integer(expected), "{from:?} to {to:?}");
    }
    let few = Question { max: 3, ..question("select * from events order by ms") };
    let few = store.ask(Engine::Sqlite, &few).await.unwrap();
    assert_eq!((few.rows.len(), few.cut), (3, true));
}

#[tokio::test]
async fn what_cannot_be_answered_says_why_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(&folder).await);
    let root = Root::folder(folder.path(), Durability::Os).unwrap();
    let options = EventOptions { patience: SECOND / 5, ..EventOptions::of(&root) };
    let store = ObjectEvents::with_options(root, options);
    let outside = folder.path().join("outside.db");
    for (sql, part) in [
        ("select colour from events", "no such column: colour"),
        ("selec 1", "it begins with `selec`"),
        ("delete from events", "it begins with `delete`"),
        ("with a as (select 1) delete from events", "readonly"),
        (&format!("attach '{}' as x", outside.display()), "it begins with `attach`"),
        (&format!("select 1; attach '{}' as x", outside.display()), "more than one statement"),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
            "longer than 200ms",
        ),
    ] {
        let error = store.ask(Engine::Sqlite, &question(sql)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }
    assert!(!outside.exists());
    let all = store.query(&EventFilter::default(), None, 1000).await.unwrap();
    assert_eq!(all.len(), 30, "each once");
}

#[tokio::test]
async fn more_than_fits_into_memory_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(&folder).await);
    let root = Root::folder(folder.path(), Durability::Os).unwrap();
    let options = EventOptions { memory: 4000, ..EventOptions::of(&root) };
    let store = ObjectEvents::with_options(root, options);
    let error = store.ask(Engine::Sqlite, &question("select 1 from events")).await.unwrap_err();
    assert!(error.to_string().contains("with DuckDB"), "{error}");
    let any = EventFilter::default();
    let error = store.query(&any, None, 10).await.unwrap_err();
    assert!(error.to_string().contains("ask for one task"), "{error}");
    let one = EventFilter { task: Some(TaskId::derived(&[&[3]])), ..any };
    assert_eq!(store.query(&one, None, 10).await.unwrap().len(), 3, "one task fits");
}

/// What a user does: `read_json_auto` over the folder, with the DuckDB of Python's package index.
#[tokio::test]
async fn a_users_own_duckdb_reads_the_files_as_they_are() {
    const SCRIPT: &str = "
import duckdb, sys
rows = duckdb.sql(f'''
    select kind, count(distinct (task, fence)) as n, min(dt) as day, max(h) as hour
      from read_json_auto('{sys.argv[1]}/events/dt=*/h=*/*.ndjson', hive_partitioning = true)
     group by kind order by kind''').fetchall()
for row in rows: print(*row)
print(duckdb.sql(f\"select ts from read_json_auto('{sys.argv[1]}/events/*/*/*.ndjson')\").types[0])
";
    let folder = tempfile::tempdir().unwrap();
    store(&folder).await;
    let python = || {
        let mut python = Command::new("python3");
        if let Some(cache) = std::env::home_dir().map(|home| home.join(".cache")) {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or(cache, Into::into);
            python.env("PYTHONPATH", cache.join("omniq/services/python"));
        }
        python
    };
    let there = python().args(["-c", "import duckdb"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: Python has no package `duckdb`; `scripts/setup --services` installs it");
        return;
    }
    let output = python().args(["-c", SCRIPT]).arg(folder.path()).output().unwrap();
    let (out, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr));
    // Older ones take an instant for one without a zone.
    let lines: Vec<_> = out.lines().map(|line| line.trim_end_matches(" WITH TIME ZONE")).collect();
    assert_eq!(
        lines,
        [
            "enqueued 10 2023-11-14 23",
            "failed 4 2023-11-14 23",
            "started 10 2023-11-14 23",
            "succeeded 6 2023-11-14 23",
            "TIMESTAMP",
        ],
        "{errors:?}"
    );
}

#[cfg(feature = "duckdb")]
#[tokio::test]
async fn duckdb_answers_as_sqlite_does() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let spans = [
        (None, None),
        (None, Some(START + SECOND)),
        (Some(START + SECOND * 4), Some(START + SECOND * 60)),
        (Some(START + HOUR / 2), Some(START + HOUR)),
        (Some(START + HOUR * 9), None),
    ];
    let mut compared = 0;
    for ((sql, _), (from, to)) in
        QUESTIONS.iter().flat_map(|question| spans.map(|span| (question, span)))
    {
        let asked = Question { from, to, ..question(sql) };
        let lite = store.ask(Engine::Sqlite, &asked).await.unwrap();
        let duck = match store.ask(Engine::DuckDb, &asked).await {
            Err(error) if error.to_string().contains("could not be loaded") => {
                println!("skipped: {error}");
                return;
            }
            duck => duck.unwrap(),
        };
        // An empty answer of SQLite does not tell its columns.
        let columns =
            if lite.rows.is_empty() { lite.columns.clone() } else { duck.columns.clone() };
        assert_eq!(
            omniq_store::object::events::Answer { columns, ..duck },
            lite,
            "{sql} from {from:?} to {to:?}"
        );
        compared += 1;
    }
    assert_eq!(compared, QUESTIONS.len() * spans.len());
    for sql in ["select * from read_csv('/etc/passwd')", "select colour from events"] {
        let error = store.ask(Engine::DuckDb, &question(sql)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}");
        assert!(!error.to_string().contains("root"), "{error}");
    }
}
