//! Questions in SQL about events: one `select` over a table `events`, by SQLite in memory or by DuckDB.
//!
//! The hours that a question is about are read, what was written twice is given once, and the question is asked of a
//! table of its own that nobody else sees: nothing it says can change or reach anything else.

use omniq_model::Timestamp;

use super::ObjectEvents;
use super::line::COLUMNS;
use crate::{Error, Result};

/// A question in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// One `select`, also behind `with`, over the table `events`. Its columns are `ts` (ISO 8601), `ms` (since 1970),
    /// `task`, `fence`, `kind`, `tenant`, `queue`, `attempt`, `session`, `what`, `micros`, `missing`, `error_kind`,
    /// `error` and `record`.
    pub sql: String,
    /// Only events at or after this instant: which hours are read.
    pub from: Option<Timestamp>,
    /// Only events before this instant.
    pub to: Option<Timestamp>,
    /// The most rows that are wanted.
    pub max: usize,
}

/// Rows that answer a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What the columns are called.
    pub columns: Vec<String>,
    /// The rows, in the order that was asked for.
    pub rows: Vec<Vec<Cell>>,
    /// There were more rows than were wanted.
    pub cut: bool,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// A text; also whatever has no form of its own here.
    Text(String),
}

/// What answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// SQLite in memory: the one that is linked anyway.
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// DuckDB, whose library is looked for when it is asked first.
    #[cfg(feature = "duckdb")]
    DuckDb,
}

impl ObjectEvents {
    /// Answers a question in SQL. Dropping the future gives the question up.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for what is not one `select`, what the engine does not understand, what takes
    /// too long, and events that take more memory than the store's options allow.
    pub async fn ask(&self, engine: Engine, question: &Question) -> Result<Answer> {
        check(&question.sql)?;
        match engine {
            #[cfg(feature = "sqlite")]
            Engine::Sqlite => self.ask_sqlite(question).await,
            #[cfg(feature = "duckdb")]
            Engine::DuckDb => self.ask_duckdb(question).await,
        }
    }
}

/// The question cannot be answered, and why.
pub(super) fn refused(reason: impl std::fmt::Display) -> Error {
    let columns: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    Error::Config(format!(
        "the question could not be answered: {reason}; ask one `select` of `events`, which has the columns {}",
        columns.join(", ")
    ))
}

/// Checks that it is one statement that only reads. Engines would also take several, `attach` and the like.
fn check(sql: &str) -> Result<()> {
    let code = code(sql);
    let code = code.trim().trim_end_matches(';').trim_end();
    if code.contains(';') {
        return Err(refused("it is more than one statement"));
    }
    let word: String = code.chars().take_while(char::is_ascii_alphabetic).collect();
    if !["select", "with", "values"].iter().any(|reads| word.eq_ignore_ascii_case(reads)) {
        return Err(refused(format!("it begins with `{word}`")));
    }
    Ok(())
}

/// A statement without its comments and without what stands in quotes.
fn code(sql: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(sql.len()), sql);
    while let Some(next) = rest.chars().next() {
        let skipped = match next {
            '\'' | '"' | '`' => Some(quoted(rest, next)),
            '[' => Some(rest.find(']').map_or(rest.len(), |end| end + 1)),
            '-' if rest.starts_with("--") => Some(rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => {
                Some(rest[2..].find("*/").map_or(rest.len(), |end| end + 4))
            }
            _ => None,
        };
        match skipped {
            Some(len) => {
                code.push(' ');
                rest = &rest[len..];
            }
            None => {
                code.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    code
}

/// How long a text is that begins with a quote: up to the next one, which ends it also where another begins at once.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_that_reads_is_asked_and_nothing_else() {
        for (sql, fine) in [
            ("select 1", true),
            ("  SELECT count(*) from events; ", true),
            ("-- how many\nselect 1", true),
            ("/* ; */ with a as (select ';') select * from a", true),
            ("values (1)", true),
            ("select 'it''s; fine', \"a;b\", [c;d]", true),
            ("select 1; attach 'x' as y", false),
            ("select ''; drop table events", false),
            ("select 1 -- \n; pragma x", false),
            ("attach 'x' as y", false),
            ("pragma query_only = off", false),
            ("copy events to 'x'", false),
            ("install httpfs", false),
            ("explain select 1", false),
            ("", false),
            ("select 'never closed; ", true), // the engine says what is wrong with it
        ] {
            assert_eq!(check(sql).is_ok(), fine, "{sql}");
        }
        let message = check("delete from events").unwrap_err().to_string();
        assert!(message.contains("it begins with `delete`"), "{message}");
    }
}
