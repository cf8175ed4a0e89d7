//! Tasks inside the caller's own transaction.

use omniq::sqlx::{self, Connection, SqliteConnection};
use omniq::{Error, NewTask, Queue};

use crate::kit::{self, MATH};

fn add(a: i32) -> NewTask {
    NewTask::new("math", "add").args((a, 1))
}

#[tokio::test]
async fn a_task_is_there_if_and_only_if_the_transaction_commits() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("app.db").display());
    let queue = Queue::connect(&url).await.unwrap();
    queue.push("math", MATH).await.unwrap();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE orders (id INTEGER)").execute(&mut connection).await.unwrap();

    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut *transaction).await.unwrap();
    let handles = queue.enqueue_in(&mut transaction, [add(1), add(2)]).await.unwrap();
    assert!(queue.get(handles[0].id()).await.unwrap().is_none(), "not committed");
    transaction.rollback().await.unwrap();
    assert!(queue.get(handles[0].id()).await.unwrap().is_none(), "rolled back");

    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let handles = queue.enqueue_in(&mut transaction, [add(1), add(2)]).await.unwrap();
    let refused = queue.enqueue_in(&mut transaction, [NewTask::new("math", "add")]).await;
    assert!(matches!(refused, Err(Error::Arguments { .. })), "{refused:?}");
    transaction.commit().await.unwrap();
    for (handle, expected) in handles.iter().zip([2, 3]) {
        assert!(handle.is_new());
        let _worker = queue.worker().start().await.unwrap();
        assert_eq!(handle.result::<i32>().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn other_stores_say_that_they_cannot() {
    let queue = kit::queue().await;
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let error = queue.enqueue_in(&mut connection, [add(1)]).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("since they live in `memory`"), "{error}");
}
