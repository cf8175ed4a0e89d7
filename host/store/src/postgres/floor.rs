//! What PostgreSQL itself does on this machine, with the same client, the same durability and the same sizes of batches as
//! the store and nothing of what the store does beyond it: the floor that the store is held against.
//!
//! One table of bodies, one of what is ready, one of what is leased, one of results; rows by many in each statement. Keeping
//! tasks, they have the columns and indices a queue looks at them by, and a session is asked for. Neither checks ids for
//! repetition or the time.

use std::time::{Duration, Instant};

use sqlx::types::Uuid;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::Config;
use super::sql::Schema;
use crate::floor::Keeps;
use crate::{Error, Result};

/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];

const PLANS: &str = "
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set jit = off";

/// The statements of a loop.
#[derive(Debug, Clone, Copy)]
struct Statements {
    schema: &'static str,
    /// Ids and bodies.
    insert: &'static str,
    /// How many, and a nonce.
    claim: &'static str,
    /// Ids, and the nonce of their claim.
    finish: &'static str,
}

const ROW: Statements = Statements {
    schema: "
    drop schema if exists $S cascade;
    create schema $S;
    create table $S.task(id uuid primary key, body bytea not null);
    create table $S.ready(prio int, seq bigint generated always as identity, id uuid not null, primary key (prio, seq));
    create table $S.lease(id uuid primary key, nonce bigint not null);
    create table $S.done(id uuid primary key, result bytea not null)",
    insert: "
    with made as (insert into $S.task select * from unnest($1::uuid[], $2::bytea[]) returning id)
    insert into $S.ready(prio, id) select 0, id from made",
    claim: "
    with c as materialized (select ctid as loc from $S.ready where prio = 0 order by seq limit $1 for update skip locked),
         d as (delete from $S.ready where ctid = any(array(select loc from c)) returning id),
         l as (insert into $S.lease select id, $2 from d returning id)
    select l.id, t.body from l cross join lateral (select body from $S.task t where t.id = l.id offset 0) t",
    finish: "
    with g as (delete from $S.lease where id = any($1) and nonce = $2 returning id)
    insert into $S.done select id, '\\xf6' from g",
};

const TASK: Statements = Statements {
    schema: "
    drop schema if exists $S cascade;
    create schema $S;
    create table $S.task(id uuid primary key, tenant int not null, queue int not null, lane int not null, prio int2 not null,
        created timestamptz not null, expires timestamptz, ukey bytea, requires int, head bytea not null, body bytea not null);
    create unique index on $S.task(tenant, ukey) where ukey is not null;
    create table $S.ready(lane int, prio int2, seq bigint generated always as identity, id uuid not null,
        attempt int2 not null, fence bigint not null, primary key (lane, prio, seq));
    create table $S.lease(id uuid primary key, fence bigint not null, nonce bigint not null, session int not null,
        lane int not null, prio int2 not null, attempt int2 not null, started timestamptz not null, deadline timestamptz);
    create index on $S.lease(session);
    create table $S.done(id uuid not null, tenant int not null, queue int not null, state int2 not null,
        attempt int2 not null, fence bigint not null, nonce bigint not null, created timestamptz not null,
        finished timestamptz not null, head bytea not null, result bytea, error bytea) partition by range (finished);
    create table $S.done_today partition of $S.done default;
    create index on $S.done(id);
    create index on $S.done(tenant, finished desc, id);
    create table $S.session(id int primary key, dead bool not null, expires timestamptz not null);
    insert into $S.session values (1, false, clock_timestamp() + interval '1 day')",
    insert: "
    with made as (insert into $S.task(id, tenant, queue, lane, prio, created, head, body)
           select id, 1, 1, 1, 0, clock_timestamp(), '\\xa0', body from unnest($1::uuid[], $2::bytea[]) as new(id, body)
        returning id)
    insert into $S.ready(lane, prio, id, attempt, fence) select 1, 0, id, 0, 0 from made",
    claim: "
    with c as materialized (select ctid as loc from $S.ready where lane = 1 and prio = 0
            and exists (select 1 from $S.session where id = 1 and not dead and expires > clock_timestamp())
          order by seq limit $1 for update skip locked),
         d as (delete from $S.ready where ctid = any(array(select loc from c)) returning *),
         l as (insert into $S.lease select id, fence + 1, $2, 1, lane, prio, attempt + 1, clock_timestamp(), null from d
          returning id, fence)
    select l.id, l.fence, t.head, t.body from l
     cross join lateral (select head, body from $S.task t where t.id = l.id offset 0) t",
    finish: "
    with g as (delete from $S.lease where id = any($1) and nonce = $2 returning *),
         t as (delete from $S.task t using g where t.id = g.id
          returning t.id, t.tenant, t.queue, t.created, t.head, g.attempt, g.fence, g.nonce)
    insert into $S.done(id, tenant, queue, state, attempt, fence, nonce, created, finished, head, result)
    select id, tenant, queue, 4, attempt, fence, nonce, created, clock_timestamp(), head, '\\xf6' from t",
};

/// A bare database.
#[derive(Debug)]
pub struct Floor {
    connection: PgConnection,
    schema: Schema,
    statements: Statements,
    inserted: u64,
}

impl Floor {
    /// Bare tables in that database, in a schema of their own beside the store's, which is made anew.
    ///
    /// # Errors
    /// The database cannot be reached, or its user may not make schemas.
    pub async fn open(config: &Config, keeps: Keeps) -> Result<Self> {
        let statements = match keeps {
            Keeps::Row => ROW,
            Keeps::Task => TASK,
        };
        let schema = Schema::new(&format!("{}_floor", config.schema), true);
        let mut connection = PgConnection::connect_with(&config.connect).await.map_err(failed)?;
        for sql in [statements.schema, PLANS] {
            let sql = AssertSqlSafe(schema.fill(sql));
            sqlx::raw_sql(sql).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Self { connection, schema, statements, inserted: 0 })
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
            let query = self.schema.query(self.statements.insert).bind(ids).bind(vec![BODY; count]);
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
            let claim = self.schema.query(self.statements.claim).bind(batch).bind(nonce);
            let claimed = claim.fetch_all(&mut self.connection).await.map_err(failed)?;
            if claimed.is_empty() {
                break;
            }
            let ids: Vec<Uuid> = claimed.iter().map(|row| row.get(0)).collect();
            let finish = self.schema.query(self.statements.finish).bind(ids).bind(nonce);
            finish.execute(&mut self.connection).await.map_err(failed)?;
            drained += claimed.len();
        }
        Ok((drained, started.elapsed()))
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::unavailable("postgres", "measure its floor", error)
}
