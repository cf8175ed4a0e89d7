//! The words, numbers and strings of WAVE text.

use std::borrow::Cow;

use crate::value::Error;
use crate::value::error::shown;

/// WAVE text and how far it has been read.
pub(super) struct Text<'a> {
    text: &'a str,
    pub at: usize,
}

impl<'a> Text<'a> {
    /// Starts at the first character.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What has been read since `start`.
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves past white space and comments.
    pub fn skip_space(&mut self) {
        loop {
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            self.at += self.rest().bytes().take_while(is_space).count();
            if !self.rest().starts_with("//") {
                break;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// The first character of the next token.
    pub fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest().chars().next()
    }

    /// Moves past `char`, if it comes next.
    pub fn eat(&mut self, char: char) -> bool {
        let found = self.peek() == Some(char);
        if found {
            self.at += char.len_utf8();
        }
        found
    }

    /// Moves past `char`, which must come next.
    pub fn expect(&mut self, char: char) -> Result<(), Error> {
        if self.eat(char) { Ok(()) } else { Err(self.unexpected(&format!("`{char}`"))) }
    }

    /// Whether member `index` follows; if not, moves past `close`. A comma may stand behind the last member.
    pub fn more(&mut self, index: usize, close: char) -> Result<bool, Error> {
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
    pub fn word(&mut self) -> Option<&'a str> {
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
    pub fn number(&mut self) -> Option<&'a str> {
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

    /// Text between two `quote`s on one line; `None` if something else comes next.
    pub fn quoted(&mut self, quote: char) -> Result<Option<Cow<'a, str>>, Error> {
        let start = self.at;
        let Some(inner) = self.rest().strip_prefix(quote) else { return Ok(None) };
        let mut escaped = false;
        for (at, char) in inner.char_indices() {
            match char {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                _ if char == quote => {
                    self.at += at + 2;
                    let text = unescape(&inner[..at]).ok_or_else(|| self.bad_escape(start));
                    return text.map(Some);
                }
                _ => {}
            }
        }
        Err(self.malformed(start, &format!("the closing `{quote}` is missing")))
    }

    /// Text between two `"""`, whose lines lose the indentation of the closing one.
    pub fn block(&mut self) -> Result<Cow<'a, str>, Error> {
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

    /// The text cannot be read because `expected` does not come next.
    #[cold]
    pub fn unexpected(&mut self, expected: &str) -> Error {
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
    pub fn next_token(&mut self) -> String {
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
