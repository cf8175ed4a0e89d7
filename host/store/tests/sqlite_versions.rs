//! Files of an earlier layout: brought forward where they are, while the release that made them goes on beside.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use omniq_model::{EventKind, TaskEvent, TaskId, Timestamp, record};
use omniq_store::sqlite::{Config, SqliteEvents};
use omniq_store::{EventFilter, EventStore};
use sqlx::{Connection, SqliteConnection};

/// The layout of events as the first release made it.
const FIRST: &str = include_str!("../src/sqlite/schema/events_0001.sql");

fn event(number: u64, kind: EventKind, at: i64) -> TaskEvent {
    TaskEvent {
        task: TaskId::derived(&[&number.to_be_bytes()]),
        fence: 1,
        kind,
        at: Timestamp::from_millis(at),
        lane: Default::default(),
        attempt: 1,
        session: None,
        error: None,
        micros: 0,
        missing: 0,
        what: "m.f".into(),
        began: None,
        unknown: Default::default(),
    }
}

async fn connect(path: &Path) -> SqliteConnection {
    let url = format!("sqlite:{}?mode=rwc", path.display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// Appends as the first release does.
async fn append(conn: &mut SqliteConnection, event: &TaskEvent) {
    const APPEND: &str = "
        insert into omniq_event(fence, kind, at, task, record) values(?1, ?2, ?3, ?4, ?5) on conflict do nothing";
    sqlx::query(APPEND)
        .bind(event.fence.cast_signed())
        .bind(i64::from(event.kind.number()))
        .bind(event.at.as_millis())
        .bind(event.task.as_bytes().to_vec())
        .bind(record::encode(event))
        .execute(conn)
        .await
        .unwrap();
}

/// Reads as the first release does.
async fn read(conn: &mut SqliteConnection) -> Vec<TaskEvent> {
    const READ: &str = "select record from omniq_event where true order by at, position limit 100";
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(READ).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| record::decode("event", row).unwrap()).collect()
}

async fn all(store: &SqliteEvents) -> Vec<TaskEvent> {
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let page = store.query(&EventFilter::default(), after, 2).await.unwrap();
        let Some((position, _)) = page.last() else { return events };
        after = Some(*position);
        events.extend(page.into_iter().map(|(_, event)| event));
    }
}

#[tokio::test]
async fn events_of_the_first_layout_are_read_and_its_release_goes_on_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    let mut first = connect(&path).await;
    sqlx::raw_sql("pragma journal_mode = wal").execute(&mut first).await.unwrap();
    sqlx::raw_sql(FIRST).execute(&mut first).await.unwrap();
    sqlx::raw_sql(
        "insert into omniq_meta(key, value)
         values('kind', 'events'), ('schema', 1), ('min_reader', 1), ('min_writer', 1), ('incarnation', 'a')",
    )
    .execute(&mut first)
    .await
    .unwrap();
    let old = [event(1, EventKind::Started, 10), event(1, EventKind::Succeeded, 20)];
    for event in &old {
        append(&mut first, event).await;
    }

    let second = SqliteEvents::open(Config::new(&path)).await.unwrap();
    assert_eq!(all(&second).await, old, "what was there");
    let new = [event(2, EventKind::Started, 30), event(2, EventKind::Succeeded, 40)];
    let whole = |[begin, end]: [TaskEvent; 2]| TaskEvent { began: Some(begin.at), ..end };
    second.append(vec![whole(new.clone())]).await.unwrap();
    second.append(vec![whole(old.clone())]).await.unwrap();
    let beside = event(3, EventKind::Started, 35);
    append(&mut first, &beside).await;
    let [begin, end] = new;
    let [old_begin, old_end] = old;
    assert_eq!(
        all(&second).await,
        [old_begin.clone(), old_end.clone(), begin, beside.clone(), end.clone()],
        "what both wrote, once each"
    );
    assert_eq!(
        read(&mut first).await,
        [old_begin, old_end, beside, end],
        "the first release misses what it does not know of, and reads on"
    );
    first.close().await.unwrap();
    second.close().await.unwrap();
}
