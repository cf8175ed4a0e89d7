//! What SQLite itself does on this machine, with the same durability and the same sizes of batches as the store and
//! nothing of what the store does beyond it: the floor that `omniq bench` holds the store against.
//!
//! One table, one index of what is ready, rows by many in each statement. No ids are checked for repetition, no lanes,
//! no time, no sessions.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use crate::{Error, Result};

/// Rows of one `INSERT`.
const ROWS: usize = 128;
/// Bytes of a body: about those of a task with two small arguments.
const BODY: &[u8] = &[7; 160];

const SCHEMA: &[&str] = &[
    "create table task (seq integer primary key, id blob not null unique, state int not null, prio int not null,
       fence int not null, nonce int, body blob not null, result blob) strict",
    "create index ready on task (prio, seq) where state = 0",
];

const CLAIM: &str = "update task set state = 1, fence = fence + 1, nonce = ?1
     where seq in (select seq from task where state = 0 order by prio, seq limit ?2)
     returning seq, fence, body";

const FINISH: &str = "update task set state = 2, result = x'f6'
     from (select json_extract(value, '$[0]') as s, json_extract(value, '$[1]') as f from json_each(?1)) as ends
     where task.seq = ends.s and task.fence = ends.f and task.nonce = ?2 and task.state = 1 returning task.seq";

/// A bare database.
#[derive(Debug)]
pub struct Floor {
    connection: SqliteConnection,
    inserted: u64,
}

impl Floor {
    /// A new database in that file, as durable as the store's default.
    ///
    /// # Errors
    /// The file cannot be made.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "4000");
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&mut connection).await.map_err(failed)?;
        }
        Ok(Self { connection, inserted: 0 })
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
                let values = vec!["(?, 0, 0, 0, ?)"; count].join(", ");
                let sql =
                    format!("insert into task (id, state, prio, fence, body) values {values}");
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for _ in 0..count {
                    self.inserted += 1;
                    query = query.bind(u128::from(self.inserted).to_be_bytes().to_vec()).bind(BODY);
                }
                query.execute(&mut *transaction).await.map_err(failed)?;
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
            let claimed = sqlx::query(CLAIM)
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
            let finished = sqlx::query(FINISH)
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
