//! A place in a folder of its own: tasks, results and modules in one file, events in another.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_model::TaskId;
use omniq_store::sqlite::{Config, SqliteEvents, SqliteModules, SqliteResults, SqliteTasks};
use omniq_store::{Durability, ManualClock};
use sqlx::Connection as _;

/// Makes places in folders that go away with them.
#[derive(Debug)]
pub struct Sqlite(pub Durability);

#[async_trait]
impl Factory for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Arc::new(SqlitePlace { folder, clock, durability: self.0 })
    }
}

#[derive(Debug)]
struct SqlitePlace {
    folder: tempfile::TempDir,
    clock: ManualClock,
    durability: Durability,
}

impl SqlitePlace {
    fn config(&self, file: impl AsRef<Path>) -> Config {
        let path = self.folder.path().join(file);
        let clock = Arc::new(self.clock.clone());
        Config { clock, durability: self.durability, ..Config::new(path) }
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> Stores {
        let tasks = SqliteTasks::open(self.config("omniq.db")).await.expect("tasks open");
        let events = SqliteEvents::open(self.config("events.db")).await.expect("events open");
        Stores {
            results: Some(Arc::new(SqliteResults::beside(&tasks))),
            modules: Some(Arc::new(SqliteModules::beside(&tasks))),
            events: Some(Arc::new(events)),
            tasks: Arc::new(tasks),
        }
    }

    fn can_damage(&self) -> bool {
        true
    }

    async fn damage(&self, task: TaskId) {
        let url = format!("sqlite:{}", self.folder.path().join("omniq.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("the file opens");
        let done = sqlx::query("update omniq_body set bytes = x'ff00' where id = ?")
            .bind(task.as_bytes().as_slice())
            .execute(&mut connection)
            .await
            .expect("the body is there");
        assert_eq!(done.rows_affected(), 1);
        connection.close().await.expect("the file closes");
    }
}
