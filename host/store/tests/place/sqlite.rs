//! A place in a folder of its own: opening it again opens the files anew, beside those that are open.

use std::sync::Arc;

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_model::TaskId;
use omniq_store::sqlite::{Config, SqliteEvents, SqliteModules, SqliteResults, SqliteTasks};
use omniq_store::{Durability, ManualClock};
use sqlx::{Connection, SqliteConnection};

/// Makes places in folders.
#[derive(Debug)]
pub struct Sqlite;

#[async_trait]
impl Factory for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        Arc::new(SqlitePlace { folder, clock })
    }
}

#[derive(Debug)]
struct SqlitePlace {
    folder: tempfile::TempDir,
    clock: ManualClock,
}

impl SqlitePlace {
    fn config(&self, name: &str) -> Config {
        Config {
            clock: Arc::new(self.clock.clone()),
            durability: Durability::Os, // the suite kills no machine
            ..Config::new(self.folder.path().join(name))
        }
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> Stores {
        let tasks = SqliteTasks::open(self.config("tasks.db")).await.unwrap();
        Stores {
            results: Some(Arc::new(SqliteResults::beside(&tasks))),
            modules: Some(Arc::new(SqliteModules::beside(&tasks))),
            events: Some(Arc::new(SqliteEvents::open(self.config("events.db")).await.unwrap())),
            tasks: Arc::new(tasks),
        }
    }

    fn can_damage(&self) -> bool {
        true
    }

    async fn damage(&self, task: TaskId) {
        const DAMAGE: &str = "
            update omniq_body set bytes = x'ff00'
             where seq = (select seq from omniq_task where id = ?1
                          union all select seq from omniq_done where id = ?1)";
        let url = format!("sqlite:{}", self.folder.path().join("tasks.db").display());
        let mut conn = SqliteConnection::connect(&url).await.unwrap();
        let id = task.as_bytes().to_vec();
        let done = sqlx::query(DAMAGE).bind(id).execute(&mut conn).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "there is no task {task}");
    }
}
