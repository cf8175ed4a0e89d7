//! Many rows as parameters of one statement: numbers in columns of fixed width in one blob, bytes side by side in another.
//!
//! Each statement crosses to the thread that owns the connection and back, which costs as much as ten rows. So every
//! statement here takes all rows at once, in a text that never changes with their number. JSON would do for numbers, but
//! reading a number out of a JSON row costs SQLite three times as much as out of a column of fixed width.

use std::fmt::Write as _;

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

/// Digits of a number with its sign.
const WIDTH: usize = 20;
/// Stands for null: no instant, count or number of ours is that small.
const NULL: i64 = i64::MIN;

/// Rows for one statement.
#[derive(Debug, Default)]
pub(super) struct Pack {
    numbers: Vec<u8>,
    blob: Vec<u8>,
    rows: usize,
}

/// One value of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Int(i64),
    Null,
    /// Two columns: where the bytes begin in the blob, and how many they are.
    Bytes(&'a [u8]),
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Option<i64>> for Cell<'_> {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::Null, Self::Int)
    }
}

impl Pack {
    /// Bytes after which a statement is better split: SQLite takes 1 GB in one parameter.
    const MOST: usize = 64 << 20;

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) {
        for cell in cells {
            match cell {
                Cell::Int(value) => self.number(*value),
                Cell::Null => self.number(NULL),
                Cell::Bytes(bytes) => {
                    self.number(i64::try_from(self.blob.len()).unwrap_or(i64::MAX));
                    self.number(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
                    self.blob.extend_from_slice(bytes);
                }
            }
        }
        self.rows += 1;
    }

    /// Writes a number with leading zeros.
    fn number(&mut self, value: i64) {
        let mut field = [b'0'; WIDTH];
        let mut rest = value.unsigned_abs();
        for digit in field.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        if value < 0 {
            field[0] = b'-'; // 2^63 has 19 digits
        }
        self.numbers.extend_from_slice(&field);
    }

    /// Whether it is better run now than filled further.
    pub(super) fn is_full(&self) -> bool {
        self.blob.len() >= Self::MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A statement made by [`expand`] over these rows. The next parameter is `?4`.
    pub(super) fn query(&mut self, sql: &'static str) -> Query<'static, Sqlite, SqliteArguments> {
        let Self { numbers, blob, rows } = std::mem::take(self);
        let mut places = String::with_capacity(2 * rows + 2);
        places.push('[');
        for row in 0..rows {
            places.push_str(if row == 0 { "0" } else { ",0" });
        }
        places.push(']');
        sqlx::query(sql).bind(numbers).bind(blob).bind(places)
    }
}

/// Makes a statement over a pack whose rows have `width` columns.
///
/// `{rows}` is the table of rows, `{3}` the number in column 3 (from 0), `{3?}` the same where it may be null, `{3b}` the
/// bytes whose place stands in columns 3 and 4.
pub(super) fn expand(template: &str, width: usize) -> String {
    let mut sql = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        sql.push_str(before);
        let digits = name.trim_end_matches(['?', 'b']);
        match (name, digits.parse::<usize>()) {
            ("rows", _) => sql.push_str("json_each(?3) r"),
            (_, Ok(column)) if name.ends_with('b') => {
                let (start, length) = (number(column, width), number(column + 1, width));
                write!(sql, "substr(?2, {start} + 1, {length})").expect("a string takes all");
            }
            (_, Ok(column)) if name.ends_with('?') => {
                let number = number(column, width);
                write!(sql, "nullif({number}, {NULL})").expect("a string takes all");
            }
            (_, Ok(column)) => sql.push_str(&number(column, width)),
            _ => debug_assert!(false, "`{name}` is nothing of a pack"),
        }
        rest = after;
    }
    sql.push_str(rest);
    sql
}

fn number(column: usize, width: usize) -> String {
    let (row, start) = (width * WIDTH, column * WIDTH + 1);
    format!("cast(substr(?1, r.key * {row} + {start}, {WIDTH}) as integer)")
}

/// A statement that is [expanded](expand) once.
macro_rules! packed {
    ($name:ident, $width:literal, $template:expr) => {
        static $name: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| $crate::sqlite::pack::expand($template, $width));
    };
}
pub(super) use packed;

/// Ids as rows of one column of bytes.
pub(super) fn packed_ids<'a>(ids: impl IntoIterator<Item = &'a omniq_model::TaskId>) -> Pack {
    let mut pack = Pack::default();
    for id in ids {
        pack.row(&[Cell::Bytes(id.as_bytes())]);
    }
    pack
}

/// Numbers as a JSON array, which is the quickest where nothing else stands in a row.
pub(super) fn numbers(values: impl IntoIterator<Item = i64>) -> String {
    let mut json = String::from("[");
    for value in values {
        if json.len() > 1 {
            json.push(',');
        }
        write!(json, "{value}").expect("a string takes all");
    }
    json.push(']');
    json
}

/// Runs of numbers without a gap, first and last of each; `None` where there are more than a few, for which a statement each
/// would cost more than [`numbers`] for all. No number may come twice.
pub(super) fn runs(values: impl IntoIterator<Item = i64>) -> Option<Vec<(i64, i64)>> {
    const FEW: usize = 3;
    let mut values: Vec<i64> = values.into_iter().collect();
    values.sort_unstable();
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, last)) if value.checked_sub(1) == Some(*last) => *last = value,
            _ => runs.push((value, value)),
        }
        if runs.len() > FEW {
            return None;
        }
    }
    Some(runs)
}

/// Ids as a JSON array of hexadecimal strings, since JSON has no bytes.
pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a omniq_model::TaskId>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut json = String::from("[");
    for id in ids {
        json.push_str(if json.len() > 1 { ",\"" } else { "\"" });
        for byte in id.as_bytes() {
            json.push(char::from(DIGITS[usize::from(byte >> 4)]));
            json.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        json.push('"');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Row, SqliteConnection};

    use super::*;

    packed!(ALL, 5, "select {0}, {1?}, {2b}, {4} from {rows} order by r.key");

    #[tokio::test]
    async fn rows_come_out_as_they_went_in() {
        let big = vec![3; 300];
        let rows: [(i64, Option<i64>, &[u8], i64); 4] = [
            (0, None, b"", -1),
            (i64::MAX, Some(0), b"abc", i64::MIN + 1),
            (-9, Some(-1), &big, 10),
            (1_800_000_000_000, Some(i64::MAX), b"\0\xff", 7),
        ];
        let mut pack = Pack::default();
        for (first, second, bytes, last) in rows {
            pack.row(&[first.into(), second.into(), Cell::Bytes(bytes), last.into()]);
        }
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let found = pack.query(&ALL).fetch_all(&mut conn).await.unwrap();
        assert!(pack.is_empty());
        assert_eq!(found.len(), rows.len());
        for (row, (first, second, bytes, last)) in found.iter().zip(rows) {
            assert_eq!(row.get::<i64, _>(0), first);
            assert_eq!(row.get::<Option<i64>, _>(1), second);
            assert_eq!(row.get::<&[u8], _>(2), bytes);
            assert_eq!(row.get::<i64, _>(3), last);
        }
        let none = Pack::default().query(&ALL).fetch_all(&mut conn).await.unwrap();
        assert!(none.is_empty());
    }
}
