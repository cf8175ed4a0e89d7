//! The result store.

use std::collections::HashMap;

use async_trait::async_trait;
use omniq_model::{Format, Payload, TaskId};
use sqlx::{Row, SqliteConnection};

use super::command::Command;
use super::config::Config;
use super::database::Handle;
use super::fault::Result as Answer;
use super::live::task_id;
use super::pack::{Cell, Pack, packed};
use super::{SqliteTasks, migrate};
use crate::{Result, ResultKey, ResultStore, StagedResult};

/// Results in a SQLite file: their own, or that of tasks.
#[derive(Debug, Clone)]
pub struct SqliteResults {
    db: Handle,
}

impl SqliteResults {
    /// Opens a file of its own, or creates it; see [`SqliteTasks::open`].
    ///
    /// # Errors
    /// As [`SqliteTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config, migrate::TASKS).await? })
    }

    /// Results in the file of these tasks, by the same writer.
    pub fn beside(tasks: &SqliteTasks) -> Self {
        Self { db: tasks.db.beside() }
    }

    /// The file, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config, migrate::TASKS).await? })
    }
}

#[async_trait]
impl ResultStore for SqliteResults {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        if results.is_empty() {
            return Ok(());
        }
        self.db.ask(Command::PutResults(results), "keep results").await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let mut reader = self.db.reader().await?;
        let found = get(reader.conn(), keys).await;
        found.map_err(|fault| self.db.error(fault, "read results"))
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        self.db.ask(Command::RemoveResults(tasks.to_vec()), "remove results").await
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.db.ask(Command::PurgeResults(max), "forget results").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

async fn get(conn: &mut SqliteConnection, keys: &[ResultKey]) -> Answer<Vec<Option<Payload>>> {
    packed!(
        GET,
        4,
        "select x.task, x.fence, x.nonce, x.format, x.bytes
           from {rows} cross join omniq_result x on x.task = {0b} and x.fence = {2} and x.nonce = {3}"
    );
    let mut pack = Pack::default();
    for key in keys {
        let (fence, nonce) = (key.token.fence.cast_signed(), key.token.nonce.cast_signed());
        pack.row(&[Cell::Bytes(key.task.as_bytes()), fence.into(), nonce.into()]);
    }
    let mut found = HashMap::new();
    for row in pack.query(&GET).fetch_all(conn).await? {
        let key: (TaskId, i64, i64) = (task_id(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?);
        let format =
            Format::from_number(u8::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u8::MAX));
        found.insert(key, Payload { format, bytes: row.try_get(4)? });
    }
    let of = |key: &ResultKey| {
        let token = key.token;
        found.get(&(key.task, token.fence.cast_signed(), token.nonce.cast_signed())).cloned()
    };
    Ok(keys.iter().map(of).collect())
}
