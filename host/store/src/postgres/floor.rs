//! What PostgreSQL itself does on this machine, with the same client, the same durability and the same sizes of batches as
//! the store and nothing of what the store does beyond it: the floor that the store is held against.
//!
//! One table of bodies, one of what is ready, one of what is leased, one of results; rows by many in each statement. No ids
//! are checked for repetition, no lanes, no time, no sessions.

use std::time::{Duration, Instant};

use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::Config;
use super::sql::Schema;
use crate::{Error, Result};

/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];

const SCHEMA: &str = "
    drop schema if exists $S cascade;
    create schema $S;
    create table $S.task(id uuid primary key, body bytea not null);
    create table $S.ready(prio int, seq bigint generated always as identity, id uuid not null, primary key (prio, seq));
    create table $S.lease(id uuid primary key, nonce bigint not null);
    create table $S.done(id uuid primary key, result bytea not null);
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off";

const INSERT: &str = "
    with made as (insert into $S.task select * from unnest($1::uuid[], $2::bytea[]) returning id)
    insert into $S.ready(prio, id) select 0, id from made";

const CLAIM: &str = "
    with c as materialized (select ctid as loc from $S.ready where prio = 0 order by seq limit $1 for update skip locked),
         d as (delete from $S.ready where ctid = any(array(select loc from c)) returning id),
         l as (insert into $S.lease select id, $2 from d returning id)
    select l.id, t.body from l cross join lateral (select body from $S.task t where t.id = l.id offset 0) t";

const FINISH: &str = "
    with g as (delete from $S.lease where id = any($1) and nonce = $2 returning id)
    insert into $S.done select id, '\\xf6' from g";

/// A bare database.
#[derive(Debug)]
pub struct Floor {
    connection: PgConnection,
    schema: Schema,
    inserted: u64,
}

impl Floor {
    /// Bare tables in that database, in a schema of their own beside the store's, which is made anew.
    ///
    /// # Errors
    /// The database cannot be reached, or its user may not make schemas.
    pub async fn open(config: &Config) -> Result<Self> {
        let schema = Schema::new(&format!("{}_floor", config.schema), true);
        let mut connection = PgConnection::connect_with(&config.connect).await.map_err(failed)?;
        let sql = AssertSqlSafe(schema.fill(SCHEMA));
        sqlx::raw_sql(sql).execute(&mut connection).await.map_err(failed)?;
        Ok(Self { connection, schema, inserted: 0 })
    }

    /// Inserts `rows` rows, `batch` in each commit; returns how long it took.
    ///
    /// # Errors
    /// The database fails.
    pub async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut left = rows;
        while left > 0 {
            let count = left.min(batch.max(1));
            left -= count;
            let ids: Vec<Uuid> = (0..count).map(|_| self.next_id()).collect();
            let query = self.schema.query(INSERT).bind(ids).bind(vec![BODY; count]);
            query.execute(&mut self.connection).await.map_err(failed)?;
        }
        Ok(started.elapsed())
    }

    fn next_id(&mut self) -> Uuid {
        self.inserted += 1;
        Uuid::from_u128(u128::from(self.inserted) << 64)
    }

    /// Claims and finishes all rows, `batch` at a time, in two commits each; returns how many and how long it took.
    ///
    /// # Errors
    /// The database fails.
    pub async fn drain(&mut self, batch: usize) -> Result<(usize, Duration)> {
        let started = Instant::now();
        let mut drained = 0;
        let batch = i64::try_from(batch).unwrap_or(i64::MAX);
        for nonce in 1_i64.. {
            let claim = self.schema.query(CLAIM).bind(batch).bind(nonce);
            let claimed = claim.fetch_all(&mut self.connection).await.map_err(failed)?;
            if claimed.is_empty() {
                break;
            }
            let ids: Vec<Uuid> = claimed.iter().map(|row| row.get(0)).collect();
            let finish = self.schema.query(FINISH).bind(ids).bind(nonce);
            finish.execute(&mut self.connection).await.map_err(failed)?;
            drained += claimed.len();
        }
        Ok((drained, started.elapsed()))
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::unavailable("postgres", "measure its floor", error)
}
