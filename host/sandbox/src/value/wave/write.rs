//! Writes WAVE.

use std::fmt::Arguments;

use crate::value::Error;
use crate::value::print::{Format, push};

/// Labels that mean something else unless a `%` stands before them.
const KEYWORDS: [&str; 8] = ["true", "false", "some", "none", "ok", "err", "inf", "nan"];

/// WAVE on one line.
pub(super) struct WaveFormat;

impl Format for WaveFormat {
    const SEPARATOR: &'static str = ", ";
    const TUPLE: (char, char) = ('(', ')');
    const FLAGS: (char, char) = ('{', '}');

    fn int(out: &mut String, value: i128) {
        push(out, format_args!("{value}"));
    }

    fn float(out: &mut String, value: f64, digits: Arguments<'_>) {
        if value.is_nan() { out.push_str("nan") } else { push(out, digits) }
    }

    fn char(out: &mut String, text: &str) {
        escape(out, text, '\'');
    }

    fn text(out: &mut String, text: &str) {
        escape(out, text, '"');
    }

    fn bytes(out: &mut String, bytes: &[u8]) {
        out.push('[');
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 {
                out.push_str(Self::SEPARATOR);
            }
            push(out, format_args!("{byte}"));
        }
        out.push(']');
    }

    fn key(out: &mut String, name: &str) {
        out.push_str(name);
        out.push_str(": ");
    }

    fn flag(out: &mut String, label: &str) {
        out.push_str(label);
    }

    fn label(out: &mut String, label: &str) {
        if KEYWORDS.contains(&label) {
            out.push('%');
        }
        out.push_str(label);
    }

    fn case(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Self::label(out, label);
        out.push('(');
        payload(out)?;
        out.push(')');
        Ok(())
    }

    fn none(out: &mut String) {
        out.push_str("none");
    }

    fn some(
        out: &mut String,
        _: bool,
        inner: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push_str("some(");
        inner(out)?;
        out.push(')');
        Ok(())
    }

    fn side(
        out: &mut String,
        label: &str,
        payload: impl FnOnce(&mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push_str(label);
        out.push('(');
        payload(out)?;
        out.push(')');
        Ok(())
    }

    fn empty_side(out: &mut String, label: &str) {
        out.push_str(label);
    }
}

/// Writes text between `quote`s; what is not printable is escaped, so that it cannot pass for something else.
fn escape(out: &mut String, text: &str, quote: char) {
    out.push(quote);
    for char in text.chars() {
        match char {
            '\'' | '"' if char != quote => out.push(char),
            '\0' => out.push_str("\\u{0}"),
            _ => out.extend(char.escape_debug()),
        }
    }
    out.push(quote);
}
