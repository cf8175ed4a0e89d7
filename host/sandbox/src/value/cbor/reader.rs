//! Reads CBOR item by item from a slice.

use super::{Flaw, Head, Major};

/// Reads the items of a byte slice one after another, borrowing from it.
///
/// Every `read_…` either moves past the item or leaves the position where it was.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next item.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The first byte of the next item, which tells its kind.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Whether the next item is `null`.
    #[inline]
    pub fn at_null(&self) -> bool {
        self.peek() == Some(0xf6)
    }

    /// Moves past any head; the position is then behind its argument, before its content.
    ///
    /// # Errors
    /// The input ends, or the byte is one that CBOR reserves.
    #[inline]
    pub fn read_head(&mut self) -> Result<Head, Flaw> {
        let Some(&first) = self.bytes.get(self.at) else { return Err(self.flaw("the input ends")) };
        let (major, info) = (MAJORS[usize::from(first >> 5)], first & 0x1f);
        let (argument, size) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(self.argument::<1>()?[0]), 1),
            25 => (u64::from(u16::from_be_bytes(self.argument()?)), 2),
            26 => (u64::from(u32::from_be_bytes(self.argument()?)), 4),
            27 => (u64::from_be_bytes(self.argument()?), 8),
            Head::INDEFINITE
                if !matches!(major, Major::Unsigned | Major::Negative | Major::Tag) =>
            {
                (0, 0)
            }
            _ => return Err(self.flaw("a reserved byte")),
        };
        if major == Major::Simple && info == 24 && argument < 32 {
            return Err(self.flaw("a reserved simple value"));
        }
        self.at += 1 + size;
        Ok(Head { major, info, argument })
    }

    /// The `N` bytes behind the head's first.
    #[inline]
    fn argument<const N: usize>(&self) -> Result<[u8; N], Flaw> {
        match self.bytes[self.at + 1..].first_chunk() {
            Some(argument) => Ok(*argument),
            None => Err(self.flaw("the input ends")),
        }
    }

    /// Reads an integer; it always fits, CBOR's integers have 65 bits.
    ///
    /// # Errors
    /// The next item is something else.
    #[inline]
    pub fn read_int(&mut self) -> Result<i128, Flaw> {
        self.one("an integer is expected", Head::int)
    }

    /// Reads a float of any width.
    ///
    /// # Errors
    /// The next item is something else, an integer included.
    #[inline]
    pub fn read_float(&mut self) -> Result<f64, Flaw> {
        self.one("a float is expected", Head::float)
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// The next item is something else.
    #[inline]
    pub fn read_bool(&mut self) -> Result<bool, Flaw> {
        self.one("a boolean is expected", Head::bool)
    }

    /// Reads `null`.
    ///
    /// # Errors
    /// The next item is something else.
    #[inline]
    pub fn read_null(&mut self) -> Result<(), Flaw> {
        self.one("null is expected", |head| head.is_null().then_some(()))
    }

    /// Reads a byte string of definite length.
    ///
    /// # Errors
    /// The next item is something else, or longer than the input.
    #[inline]
    pub fn read_bytes(&mut self) -> Result<&'a [u8], Flaw> {
        self.content(Major::Bytes, "a byte string is expected")
    }

    /// Reads text of definite length.
    ///
    /// # Errors
    /// The next item is something else, longer than the input, or not UTF-8.
    #[inline]
    pub fn read_text(&mut self) -> Result<&'a str, Flaw> {
        let start = self.at;
        let bytes = self.content(Major::Text, "text is expected")?;
        std::str::from_utf8(bytes).map_err(|_| {
            self.at = start;
            self.flaw("text that is not UTF-8")
        })
    }

    /// Reads the head of an array of definite length; its items follow.
    ///
    /// # Errors
    /// The next item is something else, or declares more items than the input has bytes left.
    #[inline]
    pub fn read_array(&mut self) -> Result<usize, Flaw> {
        self.length(Major::Array, 1, "an array is expected")
    }

    /// Reads the head of a map of definite length; that many pairs of key and value follow.
    ///
    /// # Errors
    /// The next item is something else, or declares more pairs than the input has bytes left for.
    #[inline]
    pub fn read_map(&mut self) -> Result<usize, Flaw> {
        self.length(Major::Map, 2, "a map is expected")
    }

    /// Moves past one item and all it holds.
    ///
    /// # Errors
    /// The item is cut short, malformed or of indefinite length.
    pub fn skip(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        let mut open: u64 = 1;
        while open > 0 {
            open -= 1;
            let skipped = self.skip_head();
            match skipped {
                Ok(inside) => open += inside,
                Err(flaw) => {
                    self.at = start;
                    return Err(flaw);
                }
            }
        }
        Ok(())
    }

    /// Moves past a head and its string, if it has one, and says how many items are inside.
    fn skip_head(&mut self) -> Result<u64, Flaw> {
        match MAJORS[usize::from(self.peek().unwrap_or_default() >> 5)] {
            Major::Bytes => self.content(Major::Bytes, "").map(|_| 0),
            Major::Text => self.content(Major::Text, "").map(|_| 0),
            Major::Array => self.read_array().map(|length| length as u64),
            Major::Map => self.read_map().map(|length| 2 * length as u64),
            Major::Tag => self.read_head().map(|_| 1),
            _ => self.one("", |head| (!head.is_break()).then_some(0)),
        }
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// There is another byte.
    #[inline]
    pub fn finish(&self) -> Result<(), Flaw> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.flaw("something follows the value"))
        }
    }

    /// Goes back to an offset that [`Reader::position`] gave.
    #[inline]
    pub(in crate::value) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// The `length` bytes that follow.
    #[inline]
    pub(in crate::value) fn take(&mut self, length: u64) -> Result<&'a [u8], Flaw> {
        let taken = usize::try_from(length).ok().and_then(|length| self.rest().get(..length));
        match taken {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self.flaw("a length beyond the end of the input")),
        }
    }

    /// The flaw `what` at the current position.
    #[cold]
    pub(in crate::value) fn flaw(&self, what: &'static str) -> Flaw {
        Flaw { at: self.at, what }
    }

    /// Reads an item without content.
    #[inline]
    fn one<T>(
        &mut self,
        what: &'static str,
        of: impl FnOnce(Head) -> Option<T>,
    ) -> Result<T, Flaw> {
        let start = self.at;
        of(self.read_head()?).ok_or_else(|| {
            self.at = start;
            self.flaw(what)
        })
    }

    /// Reads the head of an array or map whose members take `each` bytes at least.
    #[inline]
    fn length(&mut self, major: Major, each: u64, what: &'static str) -> Result<usize, Flaw> {
        let start = self.at;
        let head = self.read_head()?;
        let fault = if head.major != major {
            what
        } else if head.is_indefinite() {
            "an indefinite length"
        } else if head.argument > self.rest().len() as u64 / each {
            "a length beyond the end of the input"
        } else {
            return Ok(head.argument as usize);
        };
        self.at = start;
        Err(self.flaw(fault))
    }

    /// Reads a string of definite length.
    #[inline]
    fn content(&mut self, major: Major, what: &'static str) -> Result<&'a [u8], Flaw> {
        let start = self.at;
        let length = self.length(major, 1, what)?;
        self.take(length as u64).inspect_err(|_| self.at = start)
    }
}

const MAJORS: [Major; 8] = [
    Major::Unsigned,
    Major::Negative,
    Major::Bytes,
    Major::Text,
    Major::Array,
    Major::Map,
    Major::Tag,
    Major::Simple,
];
