//! WAVE, the text people type: values written as WIT would write them (`wave_ebnf.md` of the crate `wasm-wave`).
//!
//! The reader is one pass over the text, directed by the type, into canonical CBOR. The parser of `wasm-wave` is not
//! used: it builds a tree of some fifty bytes per value first, and its lexer recurses per character wherever the
//! optimiser does not turn that into a loop, so a few megabytes of text exhaust the stack. Tests hold the two to the
//! same values. Beyond the grammar, keys may be written in snake_case and camelCase, and labels that are also keywords
//! need no `%` where the type leaves no doubt.

use std::borrow::Cow;

use omniq_model::wit::{Labels, ResultType, Signature, Type, Variant};

use super::cbor::Major;
use super::error::{Noun, shown};
use super::names::nearest;
use super::print::{self, Format};
use super::sink::Sink;
use super::{Bounds, Error};

/// Labels that mean something else unless a `%` stands before them.
const KEYWORDS: [&str; 8] = ["true", "false", "some", "none", "ok", "err", "inf", "nan"];

/// Reads a value of `ty` from WAVE text and gives it as canonical CBOR.
///
/// # Errors
/// The text is not WAVE, does not fit the type, or exceeds the bounds.
pub fn read(ty: &Type, text: &str, bounds: &Bounds) -> Result<Vec<u8>, Error> {
    let mut sink = Sink::new(bounds, text.len());
    read_into(&mut sink, ty, text)?;
    sink.finish()
}

/// Reads the whole of `text` as one value of `ty`.
pub(super) fn read_into<'t>(sink: &mut Sink<'t>, ty: &'t Type, text: &str) -> Result<(), Error> {
    let mut wave = Wave { text, at: 0, sink };
    wave.value(ty)?;
    match wave.peek() {
        None => Ok(()),
        Some(_) => Err(wave.unexpected("the end")),
    }
}

/// Writes a value of `ty`, given as canonical CBOR, as WAVE text on one line.
///
/// # Errors
/// The bytes are not the canonical CBOR of a value of `ty`.
pub fn write(ty: &Type, canonical: &[u8]) -> Result<String, Error> {
    print::value::<WaveFormat>(ty, canonical)
}

/// Writes canonical arguments as the arguments of a WAVE call, `(1, "a")`, in the order of the parameters.
pub(super) fn write_args(signature: &Signature, canonical: &[u8]) -> Result<String, Error> {
    print::fields::<WaveFormat>(&signature.params, canonical, ('(', ')'), |_, _| {})
}

/// One pass over WAVE text.
struct Wave<'a, 's, 't> {
    text: &'a str,
    at: usize,
    sink: &'s mut Sink<'t>,
}

impl<'a, 't> Wave<'a, '_, 't> {
    fn value(&mut self, ty: &'t Type) -> Result<(), Error> {
        self.sink.enter()?;
        self.skip_space();
        match ty {
            Type::Bool => match self.word() {
                Some("true") => self.sink.out.bool(true),
                Some("false") => self.sink.out.bool(false),
                word => return Err(self.mismatch_before(ty, word)),
            },
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64 => {
                let token = self.number();
                match token.and_then(|token| token.parse().ok()) {
                    Some(value) => self.sink.int(ty, value)?,
                    None => return Err(self.mismatch_before(ty, token)),
                }
            }
            Type::F32 | Type::F64 => {
                let token = self.number();
                match token.and_then(|token| float(ty, token)) {
                    Some(value) => self.sink.float(ty, value)?,
                    None => return Err(self.mismatch_before(ty, token)),
                }
            }
            Type::Char => {
                let text = self.quoted(ty, '\'')?;
                self.sink.char(&text)?;
            }
            Type::String if self.rest().starts_with("\"\"\"") => {
                let text = self.block()?;
                self.sink.text(&text)?;
            }
            Type::String => {
                let text = self.quoted(ty, '"')?;
                self.sink.text(&text)?;
            }
            Type::List(_) if ty.is_bytes() => self.bytes(ty)?,
            Type::List(element) => self.list(ty, element)?,
            Type::Tuple(types) => self.tuple(ty, types)?,
            Type::Record(record) => self.record(ty, &record.fields)?,
            Type::Variant(variant) => self.variant(ty, variant)?,
            Type::Enum(labels) => {
                let Some(label) = self.word() else { return Err(self.mismatch(ty)) };
                self.sink.label(ty, labels, unescaped(label))?;
            }
            Type::Flags(labels) => self.flags(ty, labels)?,
            Type::Option(inner) => self.option(inner)?,
            Type::Result(result) => self.result(ty, result)?,
        }
        self.sink.leave();
        Ok(())
    }

    fn list(&mut self, ty: &Type, element: &'t Type) -> Result<(), Error> {
        self.open('[', ty)?;
        let open = self.sink.open();
        let mut length = 0;
        while self.more(length, ']')? {
            self.value(element).map_err(|error| error.at(length))?;
            length += 1;
        }
        self.sink.close(open, Major::Array, length);
        Ok(())
    }

    fn bytes(&mut self, ty: &Type) -> Result<(), Error> {
        self.open('[', ty)?;
        let open = self.sink.open();
        let mut length = 0;
        while self.more(length, ']')? {
            let token = self.number();
            let Some(byte) = token.and_then(|token| token.parse().ok()) else {
                return Err(self.mismatch_before(&Type::U8, token).at(length));
            };
            self.sink.room(1)?;
            self.sink.out.buffer().push(byte);
            length += 1;
        }
        self.sink.close(open, Major::Bytes, length);
        Ok(())
    }

    fn tuple(&mut self, ty: &Type, types: &'t [Type]) -> Result<(), Error> {
        let start = self.at;
        self.open('(', ty)?;
        self.sink.out.array(types.len());
        for (index, part) in types.iter().enumerate() {
            if !self.more(index, ')')? {
                return Err(self.mismatch_at(ty, start));
            }
            self.value(part).map_err(|error| error.at(index))?;
        }
        if self.more(types.len(), ')')? { Err(self.mismatch_at(ty, start)) } else { Ok(()) }
    }

    fn record(&mut self, ty: &Type, fields: &'t [omniq_model::wit::Field]) -> Result<(), Error> {
        self.open('{', ty)?;
        let mut record = self.sink.open_record(fields, Noun::Field);
        // A record without fields is written `{:}`, since `{}` is flags; here the type tells.
        if self.eat(':') {
            self.expect('}')?;
            return self.sink.close_record(&record);
        }
        let mut length = 0;
        while self.more(length, '}')? {
            let Some(key) = self.word() else { return Err(self.unexpected("a field's name")) };
            let field = self.sink.find_field(&record, unescaped(key))?;
            self.expect(':')?;
            self.sink.key(&mut record, field)?;
            self.value(&fields[field].ty).map_err(|error| error.within(&fields[field].name))?;
            length += 1;
        }
        self.sink.close_record(&record)
    }

    fn flags(&mut self, ty: &Type, labels: &'t Labels) -> Result<(), Error> {
        self.open('{', ty)?;
        let mut chosen = Vec::new();
        // One more than there are is enough to know that one came twice.
        while chosen.len() <= labels.labels.len() && self.more(chosen.len(), '}')? {
            let Some(label) = self.word() else { return Err(self.unexpected("a flag")) };
            chosen.push(self.sink.flag(ty, labels, unescaped(label))?);
        }
        self.sink.flags(labels, &mut chosen)
    }

    fn variant(&mut self, ty: &Type, variant: &'t Variant) -> Result<(), Error> {
        let Some(label) = self.word().map(unescaped) else { return Err(self.mismatch(ty)) };
        let Some(at) = self.sink.names.find(&variant.cases, label) else {
            return Err(Error::unknown_label(ty, label, nearest(&variant.cases, label)));
        };
        match &variant.cases[at].ty {
            Some(payload) => {
                self.sink.out.map(1);
                self.sink.text(label)?;
                self.payload(label, payload)
            }
            None => {
                self.sink.text(label)?;
                self.no_payload(label)
            }
        }
    }

    fn option(&mut self, inner: &'t Type) -> Result<(), Error> {
        let start = self.at;
        match self.word() {
            Some("none") => {
                self.sink.out.null();
                return Ok(());
            }
            Some("some") if self.peek() == Some('(') => {
                if let Type::Option(_) = inner {
                    self.sink.out.array(1);
                }
                self.at += 1;
                self.value(inner)?;
                return self.expect(')');
            }
            _ => self.at = start,
        }
        // Without `some` it is the value itself, unless that could be meant for another level.
        if matches!(inner, Type::Option(_) | Type::Result(_)) {
            return Err(self.expected(format!("none or some({})", shown(&inner.to_string()))));
        }
        self.value(inner)
    }

    fn result(&mut self, ty: &Type, result: &'t ResultType) -> Result<(), Error> {
        let start = self.at;
        let (label, payload) = match self.word() {
            Some("ok") => ("ok", &result.ok),
            Some("err") => ("err", &result.err),
            _ => {
                self.at = start;
                return match &result.ok {
                    Some(ok) if !matches!(ok, Type::Option(_) | Type::Result(_)) => {
                        self.sink.out.map(1);
                        self.sink.out.text("ok");
                        self.value(ok)
                    }
                    _ => Err(self.mismatch(ty)),
                };
            }
        };
        self.sink.out.map(1);
        self.sink.out.text(label);
        match payload {
            Some(payload) => self.payload(label, payload),
            None => {
                self.sink.out.null();
                self.no_payload(label)
            }
        }
    }

    /// Reads what stands in parentheses behind a label.
    fn payload(&mut self, label: &str, ty: &'t Type) -> Result<(), Error> {
        if !self.eat('(') {
            return Err(self.unexpected(&format!("`(` and the payload of `{label}`")));
        }
        self.value(ty).map_err(|error| error.within(label))?;
        self.expect(')')
    }

    fn no_payload(&mut self, label: &str) -> Result<(), Error> {
        match self.peek() {
            Some('(') => {
                Err(Error::expected(format!("{label} without a payload"), format!("{label}(…)")))
            }
            _ => Ok(()),
        }
    }

    /// What has not been read yet.
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves past white space and comments.
    fn skip_space(&mut self) {
        loop {
            self.at =
                self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
            if !self.rest().starts_with("//") {
                break;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    fn eat(&mut self, char: char) -> bool {
        let found = self.peek() == Some(char);
        if found {
            self.at += char.len_utf8();
        }
        found
    }

    fn expect(&mut self, char: char) -> Result<(), Error> {
        if self.eat(char) { Ok(()) } else { Err(self.unexpected(&format!("`{char}`"))) }
    }

    fn open(&mut self, bracket: char, ty: &Type) -> Result<(), Error> {
        if self.eat(bracket) { Ok(()) } else { Err(self.mismatch(ty)) }
    }

    /// Whether member `index` follows; if not, moves past `close`. A comma may stand behind the last member.
    fn more(&mut self, index: usize, close: char) -> Result<bool, Error> {
        let separated = index == 0 || self.eat(',');
        if self.eat(close) {
            return Ok(false);
        }
        match separated && self.peek().is_some() {
            true => Ok(true),
            false => Err(self.unexpected(&format!("`,` or `{close}`"))),
        }
    }

    /// The label or keyword that comes next, with its `%`.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let rest = self.rest();
        let body = rest.strip_prefix('%').unwrap_or(rest);
        if !body.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return None;
        }
        let end =
            body.find(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_')));
        let word = &rest[..rest.len() - body.len() + end.unwrap_or(body.len())];
        self.at += word.len();
        Some(word)
    }

    /// The number that comes next, `nan` and the infinities included.
    fn number(&mut self) -> Option<&'a str> {
        self.skip_space();
        let rest = self.rest();
        let unsigned = rest.strip_prefix('-').unwrap_or(rest);
        let end = if unsigned.starts_with(|first: char| first.is_ascii_digit()) {
            number_length(unsigned)?
        } else {
            let word =
                unsigned.find(|char: char| !char.is_ascii_alphanumeric()).unwrap_or(unsigned.len());
            let known = matches!(&unsigned[..word], "inf") || matches!(&rest[..word], "nan");
            known.then_some(word)?
        };
        let number = &rest[..rest.len() - unsigned.len() + end];
        self.at += number.len();
        Some(number)
    }

    /// Text between two `quote`s on one line.
    fn quoted(&mut self, ty: &Type, quote: char) -> Result<Cow<'a, str>, Error> {
        let start = self.at;
        let Some(inner) = self.rest().strip_prefix(quote) else { return Err(self.mismatch(ty)) };
        let mut escaped = false;
        for (at, char) in inner.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                _ if char == quote => {
                    self.at += at + 2;
                    return unescape(&inner[..at]).ok_or_else(|| self.bad_escape(start));
                }
                _ => {}
            }
        }
        Err(self.malformed(start, &format!("the closing `{quote}` is missing")))
    }

    /// Text between two `"""`, whose lines lose the indentation of the closing one.
    fn block(&mut self) -> Result<Cow<'a, str>, Error> {
        let start = self.at;
        let inner = &self.rest()[3..];
        let Some(end) = inner.find("\"\"\"") else {
            return Err(self.malformed(start, "the closing `\"\"\"` is missing"));
        };
        let inner = &inner[..end];
        let lines = inner.strip_prefix('\n').or_else(|| inner.strip_prefix("\r\n"));
        let Some(lines) = lines else {
            return Err(self.malformed(start, "a line break must follow the opening `\"\"\"`"));
        };
        let (lines, indent) = lines.rsplit_once('\n').unwrap_or(("", lines));
        if indent.bytes().any(|byte| byte != b' ') {
            return Err(self.malformed(start, "only spaces may stand before the closing `\"\"\"`"));
        }
        let mut text = String::new();
        for (index, line) in lines.split('\n').enumerate() {
            let Some(line) = line.strip_prefix(indent) else {
                return Err(
                    self.malformed(start, "a line is indented less than the closing `\"\"\"`")
                );
            };
            if index > 0 {
                text.push('\n');
            }
            let line = unescape(line.strip_suffix('\r').unwrap_or(line));
            text.push_str(&line.ok_or_else(|| self.bad_escape(start))?);
        }
        self.at += 3 + end + 3;
        Ok(Cow::Owned(text))
    }

    /// What comes next is not of type `ty`.
    #[cold]
    fn mismatch(&mut self, ty: &Type) -> Error {
        let next = self.next_token();
        Error::mismatch(ty, next)
    }

    /// What starts at `start` is not of type `ty`.
    #[cold]
    fn mismatch_at(&mut self, ty: &Type, start: usize) -> Error {
        let got = self.text[start..self.at].trim();
        Error::mismatch(ty, shown(got))
    }

    /// What was just read, or else comes next, is not of type `ty`.
    #[cold]
    fn mismatch_before(&mut self, ty: &Type, read: Option<&str>) -> Error {
        match read {
            Some(token) => Error::mismatch(ty, shown(token)),
            None => self.mismatch(ty),
        }
    }

    #[cold]
    fn expected(&mut self, expected: String) -> Error {
        let next = self.next_token();
        Error::expected(expected, next)
    }

    #[cold]
    fn unexpected(&mut self, expected: &str) -> Error {
        let next = self.next_token();
        self.malformed(self.at, &format!("{expected} is expected, got {next}"))
    }

    #[cold]
    fn bad_escape(&self, at: usize) -> Error {
        self.malformed(at, "an escape is not one of \\\\ \\' \\\" \\t \\n \\r \\u{…}")
    }

    #[cold]
    fn malformed(&self, at: usize, detail: &str) -> Error {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::malformed("WAVE", format!("{detail} at line {line} column {column}"))
    }

    /// A short rendering of what comes next.
    fn next_token(&mut self) -> String {
        match self.peek() {
            None => "nothing".to_owned(),
            Some('[') => "a list".to_owned(),
            Some('(') => "a tuple".to_owned(),
            Some('{') => "a record or flags".to_owned(),
            Some('"' | '\'') => shown(self.rest().lines().next().unwrap_or_default()),
            Some(first) => {
                let rest = self.rest();
                let end = rest
                    .find(|char: char| !(char.is_ascii_alphanumeric() || "+-._%".contains(char)));
                let end = end.unwrap_or(rest.len()).max(first.len_utf8());
                shown(&rest[..end])
            }
        }
    }
}

/// Bytes of the number at the start of `text`: digits without leading zeros, a fraction, an exponent.
fn number_length(text: &str) -> Option<usize> {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(0);
    if end > 1 && text.starts_with('0') {
        return None;
    }
    if text[end..].starts_with('.') {
        let fraction = digits(end + 1);
        if fraction > 0 {
            end += 1 + fraction;
        }
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    // A label or another number right behind it is a slip, not a second token.
    (!text[end..].starts_with(|next: char| next.is_ascii_alphanumeric() || next == '.'))
        .then_some(end)
}

/// The float of type `ty` nearest to a number of WAVE.
fn float(ty: &Type, token: &str) -> Option<f64> {
    // Straight to the width that is asked for: by way of `f64` a number would be rounded twice.
    let value = if *ty == Type::F32 {
        f64::from(token.parse::<f32>().ok()?)
    } else {
        token.parse().ok()?
    };
    (!value.is_infinite() || token.ends_with("inf")).then_some(value)
}

/// A label without the `%` that keeps it from being a keyword.
fn unescaped(word: &str) -> &str {
    word.strip_prefix('%').unwrap_or(word)
}

/// Text with its escapes replaced; `None` if one of them is unknown or stands for no character.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    let Some(first) = text.find('\\') else { return Some(Cow::Borrowed(text)) };
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    let mut next = Some(first);
    while let Some(at) = next {
        unescaped.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (char, length) = match escape.bytes().next()? {
            b't' => ('\t', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            plain @ (b'\\' | b'\'' | b'"') => (char::from(plain), 1),
            b'u' => {
                let (digits, _) = escape[1..].strip_prefix('{')?.split_once('}')?;
                let plain = (1..=6).contains(&digits.len())
                    && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let scalar = u32::from_str_radix(digits, 16).ok().filter(|_| plain)?;
                (char::from_u32(scalar)?, digits.len() + 3)
            }
            _ => return None,
        };
        unescaped.push(char);
        rest = &escape[length..];
        next = rest.find('\\');
    }
    unescaped.push_str(rest);
    Some(Cow::Owned(unescaped))
}

/// WAVE on one line.
struct WaveFormat;

impl Format for WaveFormat {
    const SEPARATOR: &'static str = ", ";
    const TUPLE: (char, char) = ('(', ')');
    const FLAGS: (char, char) = ('{', '}');

    fn int(out: &mut String, value: i128) {
        out.push_str(&value.to_string());
    }

    fn float(out: &mut String, digits: &str) {
        out.push_str(if digits == "NaN" { "nan" } else { digits });
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
            out.push_str(&byte.to_string());
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
