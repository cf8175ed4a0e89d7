//! Taking the server's answers apart. An answer of another form than the scripts give is an error, never a panic.

use redis::Value;

use super::fault::{Fault, Result};

fn wrong(wanted: &str, got: &Value) -> Fault {
    Fault::Other(format!("{wanted} was expected of a script, not {got:?}"))
}

/// A list.
pub(super) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(wrong("a list", &other)),
    }
}

/// A list of exactly so many.
pub(super) fn parts<const N: usize>(value: Value) -> Result<[Value; N]> {
    list(value)?
        .try_into()
        .map_err(|values| wrong("a list of another length", &Value::Array(values)))
}

/// A whole number.
pub(super) fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| wrong("a number", value)),
        other => Err(wrong("a number", other)),
    }
}

/// A count.
pub(super) fn size(value: &Value) -> Result<usize> {
    usize::try_from(int(value)?).map_err(|_| wrong("a count", value))
}

/// Bytes.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        other => Err(wrong("bytes", &other)),
    }
}

/// Bytes, where there are some.
pub(super) fn maybe_bytes(value: Value) -> Result<Option<Vec<u8>>> {
    if value == Value::Nil { Ok(None) } else { bytes(value).map(Some) }
}

/// A list of bytes.
pub(super) fn all_bytes(value: Value) -> Result<Vec<Vec<u8>>> {
    list(value)?.into_iter().map(bytes).collect()
}
