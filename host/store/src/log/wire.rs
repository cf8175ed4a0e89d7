//! Bytes of a log: numbers of variable length, texts and records one after the other.
//!
//! The order of the fields is fixed by who writes and reads them. Records of the model are CBOR in here, so that they stay
//! open for fields of newer versions. Whatever is read is checked: damaged bytes are an error, never a panic.

use std::time::Duration;

use omniq_model::{DecodeError, Lane, Name, SessionId, TaskId, Timestamp, Token};

/// The result of reading.
pub type Read<T> = Result<T, DecodeError>;

/// What these bytes are, in errors.
const WHAT: &str = "log entry";

/// An error about what was read.
pub fn bad(reason: impl Into<String>) -> DecodeError {
    DecodeError { what: WHAT, reason: reason.into() }
}

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub struct Out(Vec<u8>);

impl Out {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// A number in groups of seven bits, the lowest first (LEB128).
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A count or size.
    pub fn count(&mut self, value: usize) {
        self.number(value as u64);
    }

    /// A number that is as often large as small, in eight bytes.
    pub fn fixed(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Yes or no.
    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Something that may be missing.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A lane.
    pub fn lane(&mut self, lane: &Lane) {
        self.text(lane.tenant.as_str());
        self.text(lane.queue.as_str());
    }

    /// A task's id.
    pub fn id(&mut self, id: TaskId) {
        self.0.extend_from_slice(id.as_bytes());
    }

    /// A token.
    pub fn token(&mut self, token: Token) {
        self.number(token.fence);
        self.fixed(token.nonce);
    }

    /// A session's id.
    pub fn session(&mut self, id: SessionId) {
        self.fixed(id.get());
    }

    /// An instant.
    pub fn instant(&mut self, at: Timestamp) {
        self.fixed(at.as_millis().cast_unsigned());
    }

    /// A span, to the nanosecond.
    pub fn span(&mut self, span: Duration) {
        self.number(span.as_secs());
        self.number(u64::from(span.subsec_nanos()));
    }
}

/// Reads fields one after the other.
#[derive(Debug, Clone, Copy)]
pub struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that all was read.
    ///
    /// # Errors
    /// Something is left.
    pub fn end(self) -> Read<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(bad(format!("{} bytes follow it", self.0.len())))
        }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| bad("it ends in the middle"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// As all of these: the bytes end, or hold something else.
    pub fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    /// See [`Out::number`].
    pub fn number(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(bad("a number is too large"))
    }

    /// See [`Out::count`].
    pub fn count(&mut self) -> Read<usize> {
        usize::try_from(self.number()?).map_err(|_| bad("a size is too large"))
    }

    /// How many entries of at least one byte follow; more than there are bytes are refused before memory is taken.
    pub fn entries(&mut self) -> Read<usize> {
        let count = self.count()?;
        if count > self.0.len() { Err(bad("it ends in the middle")) } else { Ok(count) }
    }

    /// A list of entries of at least one byte each.
    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.entries()?;
        let mut items = Vec::with_capacity(count.min(4096));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// See [`Out::fixed`].
    pub fn fixed(&mut self) -> Read<u64> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// See [`Out::flag`].
    pub fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(bad(format!("{other} is neither yes nor no"))),
        }
    }

    /// See [`Out::bytes`].
    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    /// See [`Out::option`].
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// See [`Out::text`].
    pub fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| bad("a text is not UTF-8"))
    }

    /// A name.
    pub fn name(&mut self) -> Read<Name> {
        let text = self.text()?;
        if text == Name::default_name().as_str() {
            return Ok(Name::default_name());
        }
        text.parse().map_err(|error: omniq_model::id::ParseNameError| bad(error.to_string()))
    }

    /// See [`Out::lane`].
    pub fn lane(&mut self) -> Read<Lane> {
        Ok(Lane { tenant: self.name()?, queue: self.name()? })
    }

    /// See [`Out::id`].
    pub fn id(&mut self) -> Read<TaskId> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(self.take(16)?);
        Ok(TaskId::from_bytes(bytes))
    }

    /// See [`Out::token`].
    pub fn token(&mut self) -> Read<Token> {
        Ok(Token { fence: self.number()?, nonce: self.fixed()? })
    }

    /// See [`Out::session`].
    pub fn session(&mut self) -> Read<SessionId> {
        self.fixed().map(SessionId::new)
    }

    /// See [`Out::instant`].
    pub fn instant(&mut self) -> Read<Timestamp> {
        Ok(Timestamp::from_millis(self.fixed()?.cast_signed()))
    }

    /// See [`Out::span`].
    pub fn span(&mut self) -> Read<Duration> {
        let seconds = self.number()?;
        let nanos = u32::try_from(self.number()?).unwrap_or(u32::MAX);
        if nanos >= 1_000_000_000 {
            return Err(bad("a span has too many nanoseconds"));
        }
        Ok(Duration::new(seconds, nanos))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_at_the_ends_go_there_and_back() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX - 1, u64::MAX] {
            let mut out = Out::default();
            out.number(value);
            out.fixed(value);
            let bytes = out.into_bytes();
            let mut input = In::new(&bytes);
            assert_eq!((input.number().unwrap(), input.fixed().unwrap()), (value, value));
            input.end().unwrap();
        }
        assert!(In::new(&[0xff; 10]).number().is_err(), "more than 64 bits");
        assert!(In::new(&[0xff; 3]).number().is_err(), "cut off");
        assert!(In::new(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).list(In::byte).is_err());
    }

    #[test]
    fn spans_and_instants_at_the_ends_go_there_and_back() {
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let mut out = Out::default();
            out.span(span);
            assert_eq!(In::new(&out.into_bytes()).span().unwrap(), span);
        }
        for millis in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut out = Out::default();
            out.instant(Timestamp::from_millis(millis));
            assert_eq!(In::new(&out.into_bytes()).instant().unwrap().as_millis(), millis);
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_an_error_and_nothing_else(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = In::new(&bytes);
            let _ = input.list(|input| input.lane());
            let mut input = In::new(&bytes);
            let _ = input.option(|input| input.span());
            let mut input = In::new(&bytes);
            let _ = input.token().and_then(|_| input.id());
        }
    }
}
