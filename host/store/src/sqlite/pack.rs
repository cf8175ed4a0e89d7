//! Many rows as two parameters of one statement: numbers as a JSON array of arrays, bytes side by side in one blob.
//!
//! Each statement crosses to the thread that owns the connection and back, which costs as much as ten rows. So every
//! statement here takes all rows at once, in a text that never changes with their number: `value ->> 0` is the first
//! number of a row, `substr(?2, (value ->> 1) + 1, value ->> 2)` its bytes.

use std::fmt::Write as _;

/// Rows for one statement.
#[derive(Debug, Default)]
pub(super) struct Pack {
    json: String,
    blob: Vec<u8>,
    rows: usize,
}

/// One value of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Int(i64),
    Null,
    /// Two numbers in the row: where the bytes begin in the blob, and how many they are.
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
        self.json.push(if self.rows == 0 { '[' } else { ',' });
        for (index, cell) in cells.iter().enumerate() {
            self.json.push(if index == 0 { '[' } else { ',' });
            match cell {
                Cell::Int(value) => write!(self.json, "{value}"),
                Cell::Null => write!(self.json, "null"),
                Cell::Bytes(bytes) => {
                    let start = self.blob.len();
                    self.blob.extend_from_slice(bytes);
                    write!(self.json, "{start},{}", bytes.len())
                }
            }
            .expect("a string takes all");
        }
        self.json.push(']');
        self.rows += 1;
    }

    /// Whether it is better run now than filled further.
    pub(super) fn is_full(&self) -> bool {
        self.blob.len() >= Self::MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The two parameters.
    pub(super) fn take(&mut self) -> (String, Vec<u8>) {
        let Self { mut json, blob, .. } = std::mem::take(self);
        json.push_str(if json.is_empty() { "[]" } else { "]" });
        (json, blob)
    }
}

/// Numbers as a JSON array.
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
    use super::*;

    #[test]
    fn rows_become_two_parameters() {
        let mut pack = Pack::default();
        pack.row(&[7.into(), Cell::Bytes(b"abc"), Cell::Null]);
        pack.row(&[(-8).into(), Cell::Bytes(b"d"), Some(i64::MAX).into()]);
        let (json, blob) = pack.take();
        assert_eq!(json, "[[7,0,3,null],[-8,3,1,9223372036854775807]]");
        assert_eq!(blob, b"abcd");
        assert_eq!(pack.take().0, "[]");
    }
}
