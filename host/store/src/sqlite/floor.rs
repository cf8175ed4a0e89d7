//! What SQLite itself does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that `omniq bench` holds the store against.
//!
//! Rows by many in each statement. Keeping rows: one table, one index of what is ready. Keeping tasks: one table with an
//! index for each way a queue looks at it, and one of bodies. Neither checks ids for repetition, the time, or whether a
//! session lives.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::floor::Keeps;
use crate::{Error, Result};

/// Rows of one `INSERT`.
const ROWS: usize = 128;
/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];

/// The statements of a loop.
#[derive(Debug, Clone, Copy)]
struct Statements {
    schema: &'static [&'static str],
    /// Each with the placeholders of one row, which are bound to its number, its id and its body.
    inserts: &'static [(&'static str, &'static str)],
    claim: &'static str,
    finish: &'static str,
}

const ROW: Statements = Statements {
    schema: &[
        "create table task (seq integer primary key, id blob not null unique, state int not null, prio int not null,
           fence int not null, nonce int, body blob not null, result blob) strict",
        "create index ready on task (prio, seq) where state = 0",
    ],
    inserts: &[(
        "insert into task (seq, id, state, prio, fence, body) values ",
        "(?{n}, ?{id}, 0, 0, 0, ?{body})",
    )],
    claim: "update task set state = 1, fence = fence + 1, nonce = ?1
         where seq in (select seq from task where state = 0 order by prio, seq limit +?2)
         returning seq, fence, body",
    finish: "update task set state = 2, result = x'f6'
         from (select json_extract(value, '$[0]') as s, json_extract(value, '$[1]') as f from json_each(?1)) as ends
         where task.seq = ends.s and task.fence = ends.f and task.nonce = ?2 and task.state = 1 returning task.seq",
};

const TASK: Statements = Statements {
    schema: &[
        "create table task (seq integer primary key, id blob not null unique, tenant int not null, queue int not null,
           lane int not null, state int not null, prio int not null, run_at int, attempt int not null, fence int not null,
           nonce int, session int, deadline int, ukey blob, head blob not null, created int not null, finished int,
           result blob) strict",
        "create table body (seq integer primary key, bytes blob not null) strict",
        "create index ready on task (lane, prio, seq) where state = 0",
        "create index due on task (run_at) where state = 4",
        "create index held on task (session) where state = 1",
        "create unique index ukey on task (tenant, ukey) where ukey is not null and state in (0, 1, 4, 5)",
        "create index finished on task (tenant, finished, seq) where finished is not null",
        "create index listed on task (tenant, queue, state, seq)",
    ],
    inserts: &[
        ("insert into body (seq, bytes) values ", "(?{n}, ?{body})"),
        (
            "insert into task (seq, id, tenant, queue, lane, state, prio, attempt, fence, head, created) values ",
            "(?{n}, ?{id}, 1, 1, 1, 0, 0, 0, 0, x'a0', unixepoch())",
        ),
    ],
    claim: "update task set state = 1, fence = fence + 1, nonce = ?1, session = 1, attempt = attempt + 1,
           deadline = unixepoch() + 30
         where seq in (select seq from task where state = 0 and lane = 1 order by prio, seq limit +?2)
         returning seq, fence, (select bytes from body where body.seq = task.seq)",
    finish: "update task set state = 2, result = x'f6', finished = unixepoch(), session = null, deadline = null
         from (select json_extract(value, '$[0]') as s, json_extract(value, '$[1]') as f from json_each(?1)) as ends
         where task.seq = ends.s and task.fence = ends.f and task.nonce = ?2 and task.state = 1 returning task.seq",
};

/// A bare database.
#[derive(Debug)]
pub struct Floor {
    connection: SqliteConnection,
    statements: Statements,
    inserted: i64,
}

impl Floor {
    /// A new database in that file, as durable as the store's default.
    ///
    /// # Errors
    /// The file cannot be made.
    pub async fn open(path: &Path, keeps: Keeps) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "4000")
            .pragma("cache_size", "-65536");
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let statements = match keeps {
            Keeps::Row => ROW,
            Keeps::Task => TASK,
        };
        for statement in statements.schema {
            sqlx::query(*statement).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Self { connection, statements, inserted: 0 })
    }

    /// Inserts `rows` rows, `batch` in each commit; returns how long it took.
    ///
    /// # Errors
    /// The database fails.
    pub async fn insert(&mut self, rows: usize, batch: usize) -> Result<Duration> {
        let started = Instant::now();
        let mut left = rows;
        while left > 0 {
            let mut of_batch = left.min(batch.max(1));
            left -= of_batch;
            let mut transaction =
                self.connection.begin_with("begin immediate").await.map_err(failed)?;
            while of_batch > 0 {
                let count = of_batch.min(ROWS);
                of_batch -= count;
                for (insert, row) in self.statements.inserts {
                    let mut sql = String::from(*insert);
                    for index in 0..count {
                        let comma = if index == 0 { "" } else { ", " };
                        let (n, id, body) = (3 * index + 1, 3 * index + 2, 3 * index + 3);
                        let row = row.replace("{n}", &n.to_string());
                        let row = row.replace("{id}", &id.to_string());
                        sql += &format!("{comma}{}", row.replace("{body}", &body.to_string()));
                    }
                    let mut query = sqlx::query(AssertSqlSafe(sql));
                    for index in 1..=count as i64 {
                        let number = self.inserted + index;
                        let id = i128::from(number).to_be_bytes().to_vec();
                        query = query.bind(number).bind(id).bind(BODY);
                    }
                    query.execute(&mut *transaction).await.map_err(failed)?;
                }
                self.inserted += count as i64;
            }
            transaction.commit().await.map_err(failed)?;
        }
        Ok(started.elapsed())
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
            let claimed = sqlx::query(self.statements.claim)
                .bind(nonce)
                .bind(batch)
                .fetch_all(&mut self.connection)
                .await
                .map_err(failed)?;
            if claimed.is_empty() {
                break;
            }
            let ends: Vec<_> = claimed
                .iter()
                .map(|row| format!("[{},{}]", row.get::<i64, _>(0), row.get::<i64, _>(1)))
                .collect();
            let ends = format!("[{}]", ends.join(","));
            let finished = sqlx::query(self.statements.finish)
                .bind(ends)
                .bind(nonce)
                .fetch_all(&mut self.connection)
                .await
                .map_err(failed)?;
            drained += finished.len();
        }
        Ok((drained, started.elapsed()))
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::unavailable("sqlite", "measure its floor", error)
}
