//! Tasks, results, modules and events, each in a storage of its own kind: the same queue, whatever is combined.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use omniq_model::{EventKind, TaskId};
use omniq_store::{EventFilter, Options, open_events};
use serde_json::json;

use crate::support::omniq::{Omniq, wat};
use crate::support::place::Place;

/// A kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sqlite,
    File,
    S3,
    Postgres,
    Redis,
    Nats,
}
use Kind::{File, Nats, Postgres, Redis, S3, Sqlite};

impl Kind {
    /// The URL of a storage of this kind that belongs to a combination and a place.
    fn url(self, place: &Place, number: usize) -> String {
        let path = |name: &str| place.path(name).display().to_string();
        match self {
            Sqlite => format!("sqlite:{}", path("mixed.db")),
            File => format!("file:{}", path("files")),
            S3 => omniq_services::s3().url().replacen('?', &format!("/mixed-{number}?"), 1),
            Postgres => format!("{}?schema=mixed_{number}", omniq_services::postgres().url()),
            Redis => format!("{}?name=mixed-{number}", omniq_services::redis().url()),
            Nats => format!("{}/mixed-{number}?sync=always", omniq_services::nats().url()),
        }
    }
}

/// Where a queue keeps its tasks, results, modules and events.
type Combination = [Kind; 4];

/// Every two of the three kinds that stand most often in a column meet (an orthogonal array, nine rows), and every kind plays
/// every part that it can.
const COMBINATIONS: [Combination; 12] = [
    [Postgres, S3, Redis, Sqlite],
    [Postgres, Sqlite, File, S3],
    [Postgres, Redis, Nats, Postgres],
    [Redis, S3, File, Postgres],
    [Redis, Sqlite, Nats, Sqlite],
    [Redis, Redis, Redis, S3],
    [Nats, S3, Nats, S3],
    [Nats, Sqlite, Redis, Postgres],
    [Nats, Redis, File, Sqlite],
    [Sqlite, File, S3, File],
    [File, Postgres, Sqlite, Postgres],
    [S3, Nats, Postgres, Sqlite],
];

/// The kinds of a column that its pairs are made of.
const PAIRED: [[Kind; 3]; 4] =
    [[Postgres, Redis, Nats], [S3, Sqlite, Redis], [Redis, File, Nats], [Sqlite, S3, Postgres]];

#[test]
fn every_pair_of_kinds_meets_and_every_kind_plays_every_part() {
    for one in 0..4 {
        for other in one + 1..4 {
            let met: BTreeSet<_> = COMBINATIONS.iter().map(|row| (row[one], row[other])).collect();
            for first in PAIRED[one] {
                for second in PAIRED[other] {
                    assert!(met.contains(&(first, second)), "{one} {first:?}, {other} {second:?}");
                }
            }
        }
    }
    for (part, kinds) in [(0, 6), (1, 6), (2, 6), (3, 4)] {
        let seen: BTreeSet<_> = COMBINATIONS.iter().map(|row| row[part]).collect();
        assert_eq!(seen.len(), kinds, "{part}: {seen:?}");
    }
}

#[test]
fn a_queue_works_over_any_combination() {
    let next = AtomicUsize::new(0);
    // Each is a handful of processes that mostly wait for their servers.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(combination) = COMBINATIONS.get(number)
                {
                    work(number, *combination);
                }
            });
        }
    });
}

/// One queue over four storages: what was pushed is found, runs, ends with its values, and is in the log.
fn work(number: usize, combination: Combination) {
    let place = Place::empty();
    let [tasks, results, modules, log] = combination.map(|kind| kind.url(&place, number));
    // SQLite has events in a file of their own.
    let events = log.replace("mixed.db", "log.db");
    let run = |words: &str| -> Omniq {
        place
            .run(words)
            .env("OMNIQ_TASK_STORAGE_URL", &tasks)
            .env("OMNIQ_RESULT_STORAGE_URL", &results)
            .env("OMNIQ_OBSTORE_URI", &modules)
            .env("OMNIQ_EVENT_STORAGE_URL", &events)
            // However small, values lie where results are.
            .env("OMNIQ_RESULT_INLINE_SIZE", "0")
    };
    run(&format!("push {} --module-version 1", wat("jobs"))).says();
    let enqueue = |words: &str| run(&format!("enqueue {words}")).says().trim_end().to_owned();
    let (echoed, failed) = (enqueue("jobs echo hello"), enqueue("jobs find 7 --retries 0"));
    let drained = run("worker --drain").end();
    assert_eq!(drained.code, 0, "{combination:?}: {}", drained.stderr);
    assert!(drained.stderr.contains("1 task succeeded, 1 failed"), "{}", drained.stderr);
    assert_eq!(run(&format!("result {echoed} -o json")).says(), "\"hello\"\n", "{combination:?}");

    let checked = run("storage check -o json").end();
    assert_eq!(checked.code, 0, "{combination:?}: {}", checked.stderr);
    let stores = &checked.json()["stores"];
    for part in 0..4 {
        assert_eq!(stores[part]["state"], json!("ok"), "{combination:?}: {stores}");
    }
    for (task, end) in [(echoed, EventKind::Succeeded), (failed, EventKind::Failed)] {
        let kinds = logged(&events, task.parse().expect("an id"));
        let expected = [EventKind::Enqueued, EventKind::Started, end];
        assert_eq!(kinds, expected, "{combination:?}");
    }
}

/// What the log says of a task.
fn logged(url: &str, task: TaskId) -> Vec<EventKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let events = open_events(url, &Options::default()).await.expect("events open");
        let filter = EventFilter { task: Some(task), ..EventFilter::default() };
        let found = events.query(&filter, None, 100).await.expect("events are read");
        events.close().await.expect("events close");
        found.into_iter().map(|(_, event)| event.kind).collect()
    })
}
