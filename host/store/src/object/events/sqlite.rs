//! Questions answered by SQLite: the events that are asked about are loaded into a database in memory.

use std::time::Instant;

use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{
    Column as _, Connection as _, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _,
};

use super::ObjectEvents;
use super::line::COLUMNS;
use super::read::Reader;
use super::sql::{Answer, Cell, Question, refused};
use crate::{EventFilter, Result};

/// How many steps of its machine SQLite makes before it looks whether that is over.
const STEPS: i32 = 10_000;
/// Bytes of lines that are loaded by one statement.
const CHUNK: usize = 1 << 20;

impl ObjectEvents {
    pub(super) async fn ask_sqlite(&self, question: &Question) -> Result<Answer> {
        let options = SqliteConnectOptions::new().in_memory(true);
        let failed = |error: sqlx::Error| refused(error);
        let mut database = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        self.load(question, &mut database).await?;
        sqlx::query("pragma query_only = on").execute(&mut database).await.map_err(failed)?;
        let patience = self.0.options.patience;
        let until = Instant::now() + patience;
        let mut handle = database.lock_handle().await.map_err(failed)?;
        handle.set_progress_handler(STEPS, move || Instant::now() < until);
        drop(handle);
        let answer = answer(&mut database, question).await;
        let late = Instant::now() >= until;
        answer.map_err(|error| match late {
            true => refused(format!("it took longer than {patience:?}")),
            false => refused(reason(&error)),
        })
    }

    /// Makes the table `events`.
    async fn load(&self, question: &Question, database: &mut SqliteConnection) -> Result<()> {
        self.0.flush().await?;
        let filter = EventFilter { from: question.from, to: question.to, ..EventFilter::default() };
        let (objects, memory) = (&self.0.objects, self.0.options.memory);
        let mut reader = Reader::new(objects, &filter, None, memory).await?;
        let mut table = Table::new(database).await?;
        let mut size = 0;
        while let Some(hour) = reader.next().await? {
            for found in hour {
                let at = found.event.at;
                if question.from.is_some_and(|from| at < from)
                    || question.to.is_some_and(|to| at >= to)
                {
                    continue;
                }
                size += found.line.len();
                if size > memory {
                    return Err(refused(format!(
                        "the events it asks about are more than {} MiB; ask about a shorter time, or read the files with DuckDB",
                        memory >> 20
                    )));
                }
                table.push(&found.line, &found.event).await?;
            }
        }
        table.flush().await
    }
}

/// The table `events` while it is filled.
struct Table<'a> {
    database: &'a mut SqliteConnection,
    insert: String,
    /// A JSON array of lines that is not closed yet.
    chunk: String,
}

impl<'a> Table<'a> {
    async fn new(database: &'a mut SqliteConnection) -> Result<Self> {
        let columns: Vec<_> = COLUMNS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let create = format!("create table events({})", columns.join(", "));
        let values: Vec<_> = COLUMNS.iter().map(|(name, _)| format!("value->>'{name}'")).collect();
        let insert = format!("insert into events select {} from json_each(?)", values.join(", "));
        let create = sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut *database).await;
        create.map_err(refused)?;
        Ok(Self { database, insert, chunk: String::new() })
    }

    async fn push(&mut self, line: &[u8], event: &omniq_model::TaskEvent) -> Result<()> {
        self.chunk.push(if self.chunk.is_empty() { '[' } else { ',' });
        match std::str::from_utf8(line) {
            // A gap that stands for a line that could not be read has no line of its own.
            Ok(line) if super::line::decode(line.as_bytes()).is_ok() => self.chunk.push_str(line),
            _ => self.chunk.push_str(&super::line::encode(event)),
        }
        if self.chunk.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.chunk.push(']');
        let chunk = std::mem::take(&mut self.chunk);
        let insert = sqlx::query(sqlx::AssertSqlSafe(self.insert.clone())).bind(chunk);
        insert.execute(&mut *self.database).await.map_err(refused)?;
        Ok(())
    }
}

async fn answer(
    database: &mut SqliteConnection,
    question: &Question,
) -> Result<Answer, sqlx::Error> {
    let sql = sqlx::query(sqlx::AssertSqlSafe(question.sql.clone()));
    let mut found = sql.fetch(database);
    let mut answer = Answer { columns: Vec::new(), rows: Vec::new(), cut: false };
    while let Some(row) = found.try_next().await? {
        if answer.columns.is_empty() {
            answer.columns = row.columns().iter().map(|column| column.name().to_owned()).collect();
        }
        if answer.rows.len() >= question.max {
            answer.cut = true;
            break;
        }
        answer.rows.push(cells(&row)?);
    }
    Ok(answer)
}

fn cells(row: &SqliteRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |index: usize| {
        let value = row.try_get_raw(index)?;
        let kind = value.type_info().name().to_owned();
        Ok(match (value.is_null(), kind.as_str()) {
            (true, _) => Cell::Null,
            (_, "INTEGER" | "BOOLEAN") => Cell::Integer(row.try_get_unchecked(index)?),
            (_, "REAL") => Cell::Real(row.try_get_unchecked(index)?),
            (_, "BLOB") => {
                let bytes: Vec<u8> = row.try_get_unchecked(index)?;
                Cell::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            }
            _ => Cell::Text(row.try_get_unchecked(index)?),
        })
    };
    (0..row.len()).map(cell).collect()
}

/// What SQLite says, without the number of the error.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}
