//! A place on the PostgreSQL server of the test process: a schema of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use omniq_conformance::{Factory, Place, Stores};
use omniq_model::TaskId;
use omniq_store::postgres::{
    Config, PostgresEvents, PostgresModules, PostgresResults, PostgresTasks,
};
use omniq_store::{Durability, ManualClock};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// Makes places on a server.
#[derive(Debug)]
pub struct Postgres {
    /// Where it is, with what is to be said beyond the schema.
    pub url: String,
    /// What answers are to survive.
    pub durability: Durability,
}

#[async_trait]
impl Factory for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn place(&self, clock: ManualClock) -> Arc<dyn Place> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let schema = format!("place_{}", MADE.fetch_add(1, Ordering::Relaxed));
        Arc::new(PostgresPlace {
            url: self.url.clone(),
            schema,
            clock,
            durability: self.durability,
        })
    }
}

#[derive(Debug)]
struct PostgresPlace {
    url: String,
    schema: String,
    clock: ManualClock,
    durability: Durability,
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open(&self) -> Stores {
        let mut config = Config::new(&self.url).expect("the URL is right");
        config.schema = self.schema.clone();
        config.connections = 4;
        config.durability = self.durability;
        config.clock = Some(Arc::new(self.clock.clone()));
        let tasks = PostgresTasks::open(config).await.expect("tasks open");
        Stores {
            results: Some(Arc::new(PostgresResults::beside(&tasks))),
            events: Some(Arc::new(PostgresEvents::beside(&tasks))),
            modules: Some(Arc::new(PostgresModules::beside(&tasks))),
            tasks: Arc::new(tasks),
        }
    }

    fn can_damage(&self) -> bool {
        true
    }

    async fn damage(&self, task: TaskId) {
        let url = self.url.split('?').next().expect("it has a first part");
        let options: PgConnectOptions = url.parse().expect("the URL is right");
        // A pooler refuses that setting.
        let options = options.extra_float_digits(None);
        let mut connection = options.connect().await.expect("the server is there");
        let sql = format!("update {}.task set body = '\\xff00' where id = '{task}'", self.schema);
        let done = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .expect("the body is there");
        assert_eq!(done.rows_affected(), 1);
        connection.close().await.expect("the connection closes");
    }
}
