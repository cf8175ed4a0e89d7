//! Writes JSON.

use std::fmt::Arguments;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::value::Error;
use crate::value::print::{Format, push};

/// The largest integer that every reader of JSON takes exactly: 2⁵³ − 1 (RFC 8259, §6).
const LARGEST_EXACT: i128 = (1 << 53) - 1;

/// Compact JSON.
pub(super) struct Json;

impl Format for Json {
    const SEPARATOR: &'static str = ",";
    const TUPLE: (char, char) = ('[', ']');
    const FLAGS: (char, char) = ('[', ']');

    fn int(out: &mut String, value: i128) {
        let quote = if value.abs() > LARGEST_EXACT { "\"" } else { "" };
        push(out, format_args!("{quote}{value}{quote}"));
    }

    fn float(out: &mut String, value: f64, digits: Arguments<'_>) {
        match value {
            _ if value.is_nan() => out.push_str("\"nan\""),
            f64::INFINITY => out.push_str("\"inf\""),
            f64::NEG_INFINITY => out.push_str("\"-inf\""),
            _ => push(out, digits),
        }
    }

    fn char(out: &mut String, text: &str) {
        Json::text(out, text);
    }

    fn text(out: &mut String, text: &str) {
        out.push('"');
        let mut rest = text;
        while let Some(at) = rest.find(|char: char| char < ' ' || char == '"' || char == '\\') {
            let (plain, special) = rest.split_at(at);
            out.push_str(plain);
            match special.as_bytes()[0] {
                b'"' => out.push_str("\\\""),
                b'\\' => out.push_str("\\\\"),
                b'\n' => out.push_str("\\n"),
                b'\r' => out.push_str("\\r"),
                b'\t' => out.push_str("\\t"),
                control => push(out, format_args!("\\u{control:04x}")),
            }
            rest = &special[1..];
        }
        out.push_str(rest);
        out.push('"');
    }

    fn bytes(out: &mut String, bytes: &[u8]) {
        out.push('"');
        STANDARD.encode_string(bytes, out);
        out.push('"');
    }

    fn key(out: &mut String, name: &str) {
        Json::text(out, name);
        out.push(':');
    }

    fn flag(out: &mut String, label: &str) {
        Json::text(out, label);
    }

    fn label(out: &mut String, label: &str) {
        Json::text(out, label);
    }

    fn case(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push('{');
        Json::key(out, label);
        payload(out)?;
        out.push('}');
        Ok(())
    }

    fn none(out: &mut String) {
        out.push_str("null");
    }

    fn some(
        out: &mut String,
        wraps_option: bool,
        inner: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !wraps_option {
            return inner(out);
        }
        out.push('[');
        inner(out)?;
        out.push(']');
        Ok(())
    }

    fn side(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Self::case(out, label, payload)
    }

    fn empty_side(out: &mut String, label: &str) {
        out.push('{');
        Json::key(out, label);
        out.push_str("null}");
    }
}
