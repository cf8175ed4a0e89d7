//! Components written as text.

use std::borrow::Cow;
use std::path::Path;

use wat::Detect;

use super::error::{Error, shorten};

/// The longest text that is read, in bytes: a syntax tree takes many times the room of its text.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Turns a component's text form into its binary form; what is binary already is returned as it is.
///
/// Text is recognised by its first parenthesis, or by a file name that ends in `.wat`. Anything else is returned
/// unchanged as well, for [`inspect`](super::inspect) to say what it is.
///
/// # Errors
/// [`Error::Text`] with line and column where the text breaks a rule, [`Error::TooLarge`] above [`MAX_TEXT_BYTES`].
pub fn to_binary<'a>(bytes: &'a [u8], file_name: Option<&str>) -> Result<Cow<'a, [u8]>, Error> {
    let named_text = file_name.is_some_and(|name| {
        Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("wat"))
    });
    let is_text = match Detect::from_bytes(bytes) {
        Detect::WasmBinary => false,
        Detect::WasmText => true,
        Detect::Unknown => named_text && !bytes.is_empty(),
    };
    if !is_text {
        return Ok(Cow::Borrowed(bytes));
    }
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(Error::TooLarge { size: bytes.len() as u64, max: MAX_TEXT_BYTES as u64 });
    }
    let text = str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(&bytes[..error.valid_up_to()]);
        Error::Text { line, column, message: "not valid UTF-8".to_owned() }
    })?;
    wat::parse_str(text).map(Cow::Owned).map_err(|error| explain(&error.to_string()))
}

/// Takes the parser's report apart: a message, ` --> file:line:column`, and the source with a marker; or, where a
/// line is too long to be shown, the message and ` at file:line:column`.
fn explain(report: &str) -> Error {
    let (message, rest) =
        report.split_once("-->").or_else(|| report.rsplit_once(" at ")).unwrap_or((report, ""));
    let place = rest.lines().next().unwrap_or_default();
    let mut numbers = place.rsplit(':').map(|number| number.trim().parse().ok());
    let column = numbers.next().flatten();
    let line = numbers.next().flatten();
    Error::Text {
        line: line.unwrap_or(1),
        column: column.unwrap_or(1),
        message: shorten(message.trim()),
    }
}

/// Line and column, from 1, of what follows `before`.
fn position(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}
