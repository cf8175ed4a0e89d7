//! The result store.

use std::collections::HashMap;

use async_trait::async_trait;
use omniq_model::{Format, Payload, TaskId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;

use super::PostgresTasks;
use super::command::Command;
use super::config::Config;
use super::database::Handle;
use super::fault::Result as Answer;
use super::sql::{Bound, Schema, millis, task_id, uuid, uuids};
use crate::{Result, ResultKey, ResultStore, StagedResult, failpoint};

/// Results in a PostgreSQL database: their own, or that of tasks.
#[derive(Debug, Clone)]
pub struct PostgresResults {
    db: Handle,
}

impl PostgresResults {
    /// Opens a place of its own; see [`PostgresTasks::open`].
    ///
    /// # Errors
    /// As [`PostgresTasks::open`].
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::open(config).await? })
    }

    /// Results beside these tasks, by the same connections.
    pub fn beside(tasks: &PostgresTasks) -> Self {
        Self { db: tasks.db.beside() }
    }

    /// The place, shared with whoever has it open in this process.
    pub(crate) async fn shared(config: Config) -> Result<Self> {
        Ok(Self { db: Handle::shared(config).await? })
    }
}

#[async_trait]
impl ResultStore for PostgresResults {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn put(&self, results: Vec<StagedResult>) -> Result<()> {
        if results.is_empty() {
            return Ok(());
        }
        let put = self.db.run("keep results", move |db| async move {
            let now = db.now();
            failpoint::hit("postgres.put_results.before_commit");
            db.fetch(|schema| put(schema, now, &results)).await?;
            failpoint::hit("postgres.put_results.after_commit");
            Ok(())
        });
        put.await
    }

    async fn get(&self, keys: &[ResultKey]) -> Result<Vec<Option<Payload>>> {
        let keys = keys.to_vec();
        let found = self.db.run("read results", move |db| async move {
            let rows = db.fetch(|schema| get(schema, &keys)).await?;
            read(&rows, &keys)
        });
        found.await
    }

    async fn remove(&self, tasks: &[TaskId]) -> Result<()> {
        const REMOVE: &str = "delete from $S.result r where r.task = any($1)";
        let tasks = uuids(tasks);
        let removed = self.db.run("remove results", move |db| async move {
            db.fetch(|schema| schema.query(REMOVE).bind(tasks.clone())).await
        });
        removed.await.map(drop)
    }

    async fn purge(&self, max: usize) -> Result<usize> {
        self.db.ask(Command::PurgeResults(max), "forget results").await
    }

    async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

fn put(schema: &Schema, now: Option<i64>, results: &[StagedResult]) -> Bound {
    const PUT: &str = "
        insert into $S.result(task, fence, nonce, forget, format, bytes)
        select u.task, u.fence, u.nonce, n.now + least(u.ttl, 9223372036854775807 - n.now), u.format, u.bytes
          from (select coalesce($1, $S.now()) as now) n,
               unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::bytea[])
                   as u(task, fence, nonce, ttl, format, bytes)
         order by u.task, u.fence, u.nonce
        on conflict do nothing";
    let keys = || results.iter().map(|staged| staged.key);
    schema
        .query(PUT)
        .bind(now)
        .bind(keys().map(|key| uuid(key.task)).collect::<Vec<Uuid>>())
        .bind(keys().map(|key| key.token.fence.cast_signed()).collect::<Vec<i64>>())
        .bind(keys().map(|key| key.token.nonce.cast_signed()).collect::<Vec<i64>>())
        .bind(results.iter().map(|staged| millis(staged.ttl.get())).collect::<Vec<i64>>())
        .bind(
            results
                .iter()
                .map(|staged| i16::from(staged.value.format.number()))
                .collect::<Vec<i16>>(),
        )
        .bind(results.iter().map(|staged| staged.value.bytes.as_slice()).collect::<Vec<_>>())
}

fn get(schema: &Schema, keys: &[ResultKey]) -> Bound {
    const GET: &str = "
        select x.task, x.fence, x.nonce, x.format, x.bytes
          from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as u(task, fence, nonce)
         cross join lateral (select * from $S.result x
                              where x.task = u.task and x.fence = u.fence and x.nonce = u.nonce offset 0) x";
    schema
        .query(GET)
        .bind(keys.iter().map(|key| uuid(key.task)).collect::<Vec<Uuid>>())
        .bind(keys.iter().map(|key| key.token.fence.cast_signed()).collect::<Vec<i64>>())
        .bind(keys.iter().map(|key| key.token.nonce.cast_signed()).collect::<Vec<i64>>())
}

fn read(rows: &[PgRow], keys: &[ResultKey]) -> Answer<Vec<Option<Payload>>> {
    let mut found = HashMap::new();
    for row in rows {
        let key: (TaskId, i64, i64) = (task_id(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?);
        let number = row.try_get::<i16, _>(3)?;
        let format = Format::from_number(u8::try_from(number).unwrap_or(u8::MAX));
        found.insert(key, Payload { format, bytes: row.try_get(4)? });
    }
    let of = |key: &ResultKey| {
        let token = key.token;
        found.get(&(key.task, token.fence.cast_signed(), token.nonce.cast_signed())).cloned()
    };
    Ok(keys.iter().map(of).collect())
}
