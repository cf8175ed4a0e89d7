//! CBOR item by item: the form in which values are stored, hashed and handed to a guest (RFC 8949).
//!
//! *Canonical* means the core deterministic encoding (§4.2.1) of the mapping in `docs/values.md`: shortest integers
//! and floats, one NaN, definite lengths, map keys in the bytewise order of their encoding, every field present. Equal
//! values of one type are equal bytes. [`canonicalize`] makes it from any well-formed CBOR; all other code here and in
//! the engine reads only the canonical form and answers anything else with a [`Flaw`].
//!
//! [`Reader`] and [`Writer`] are written here, not taken from a crate, for what a call needs of them: text and bytes
//! are borrowed from the input, a declared length is compared with what is left before anyone can allocate for it, no
//! item ever becomes a tree, and reading an integer is a handful of instructions. Neither recurses, so no input can
//! exhaust the stack.

use half::f16;
use omniq_model::wit::Field;

pub use super::canonical::canonicalize;

/// The tag of a byte string that holds CBOR; tolerated and dropped.
pub(super) const TAG_EMBEDDED: u64 = 24;
/// The tag that only says "this is CBOR"; tolerated and dropped.
pub(super) const TAG_SELF_DESCRIBED: u64 = 55799;

/// The kind of an item: the upper three bits of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Major {
    /// An integer from 0.
    Unsigned = 0,
    /// An integer below 0: minus one minus the argument.
    Negative = 1,
    /// A byte string.
    Bytes = 2,
    /// Text in UTF-8.
    Text = 3,
    /// As many items as the argument says.
    Array = 4,
    /// As many pairs of items as the argument says.
    Map = 5,
    /// A remark about the item that follows.
    Tag = 6,
    /// A float, `true`, `false`, `null` or another simple value.
    Simple = 7,
}

/// The start of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What kind of item it is.
    pub major: Major,
    /// How the argument was written: itself below 24, 24 to 27 for 1, 2, 4 or 8 bytes, 31 for an indefinite length.
    pub info: u8,
    /// The integer, length, tag, simple value or the bits of a float.
    pub argument: u64,
}

impl Head {
    /// The low bits of the first byte that stand for "no length given", or for a break.
    pub const INDEFINITE: u8 = 31;

    /// Whether the item's end is marked by a break instead of a length.
    #[inline]
    pub fn is_indefinite(self) -> bool {
        self.info == Self::INDEFINITE && self.major != Major::Simple
    }

    /// Whether this is the break that ends an item of indefinite length.
    #[inline]
    pub fn is_break(self) -> bool {
        self.info == Self::INDEFINITE && self.major == Major::Simple
    }

    /// The integer this is, if it is one.
    #[inline]
    pub fn int(self) -> Option<i128> {
        match self.major {
            Major::Unsigned => Some(i128::from(self.argument)),
            Major::Negative => Some(-1 - i128::from(self.argument)),
            _ => None,
        }
    }

    /// The float this is, if it is one. Exact: every width fits `f64`.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the head says how many bits the argument has"
    )]
    pub fn float(self) -> Option<f64> {
        match (self.major, self.info) {
            (Major::Simple, 25) => Some(f16::from_bits(self.argument as u16).to_f64_const()),
            (Major::Simple, 26) => Some(f64::from(f32::from_bits(self.argument as u32))),
            (Major::Simple, 27) => Some(f64::from_bits(self.argument)),
            _ => None,
        }
    }

    /// The boolean this is, if it is one.
    #[inline]
    pub fn bool(self) -> Option<bool> {
        match (self.major, self.info) {
            (Major::Simple, 20) => Some(false),
            (Major::Simple, 21) => Some(true),
            _ => None,
        }
    }

    /// Whether this is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        self.major == Major::Simple && self.info == 22
    }
}

/// What is wrong with some bytes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Flaw {
    /// The offset of the item that is not as it must be.
    pub at: usize,
    /// What it is or lacks.
    pub what: &'static str,
}

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
    pub(super) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// The `length` bytes that follow.
    #[inline]
    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], Flaw> {
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
    pub(super) fn flaw(&self, what: &'static str) -> Flaw {
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

/// Writes items one after another, each in its shortest form.
///
/// The caller sees to the rest of the canonical form: as many items as a head declares, and map keys in order.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts with nothing, and with room for `capacity` bytes.
    #[inline]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// What has been written.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been written.
    #[inline]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes written so far.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "only the offset is of interest")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The buffer itself, for content that is written in place behind its head.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes a head with its argument in as few bytes as it needs.
    #[inline]
    pub fn head(&mut self, major: Major, argument: u64) {
        let (head, size) = encode_head(major, argument);
        self.bytes.extend_from_slice(&head[..size]);
    }

    /// Writes an integer from 0.
    #[inline]
    pub fn uint(&mut self, value: u64) {
        self.head(Major::Unsigned, value);
    }

    /// Writes an integer.
    #[inline]
    pub fn sint(&mut self, value: i64) {
        // For a negative value, the complement is minus one minus the value.
        match u64::try_from(value) {
            Ok(value) => self.head(Major::Unsigned, value),
            Err(_) => self.head(Major::Negative, !value as u64),
        }
    }

    /// Writes a float in 2 or 4 bytes, whichever holds it exactly; every NaN as the one quiet NaN.
    #[inline]
    pub fn f32(&mut self, value: f32) {
        if value.is_nan() {
            return self.bytes.extend_from_slice(&[0xf9, 0x7e, 0x00]);
        }
        // A half float has 13 bits less of fraction, so nearly all others are told by one test.
        if value.to_bits() & 0x1fff == 0 {
            let half = f16::from_f32_const(value);
            if half.to_f32_const().to_bits() == value.to_bits() {
                let [high, low] = half.to_bits().to_be_bytes();
                return self.bytes.extend_from_slice(&[0xf9, high, low]);
            }
        }
        let [a, b, c, d] = value.to_bits().to_be_bytes();
        self.bytes.extend_from_slice(&[0xfa, a, b, c, d]);
    }

    /// Writes a float in 2, 4 or 8 bytes, whichever holds it exactly; every NaN as the one quiet NaN.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whether the shorter float is exact is the question"
    )]
    pub fn f64(&mut self, value: f64) {
        let single = value as f32;
        if value.is_nan() || f64::from(single).to_bits() == value.to_bits() {
            return self.f32(single);
        }
        let mut item = [0xfb; 9];
        item[1..].copy_from_slice(&value.to_bits().to_be_bytes());
        self.bytes.extend_from_slice(&item);
    }

    /// Writes text.
    #[inline]
    pub fn text(&mut self, value: &str) {
        self.head(Major::Text, value.len() as u64);
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Writes a byte string.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(Major::Bytes, value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// Starts an array; `length` items must follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.head(Major::Array, length as u64);
    }

    /// Starts a map; `length` pairs of key and value must follow, keys in canonical order.
    #[inline]
    pub fn map(&mut self, length: usize) {
        self.head(Major::Map, length as u64);
    }

    /// Writes `true` or `false`.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(0xf4 + u8::from(value));
    }

    /// Writes `null`.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.push(0xf6);
    }
}

/// The shortest head, and how many of the nine bytes it takes.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "each arm is chosen by the argument's size")]
pub(super) fn encode_head(major: Major, argument: u64) -> ([u8; 9], usize) {
    let first = (major as u8) << 5;
    let mut head = [0; 9];
    let size = match argument {
        0..=23 => {
            head[0] = first | argument as u8;
            return (head, 1);
        }
        24..=0xff => {
            head[..2].copy_from_slice(&[first | 24, argument as u8]);
            return (head, 2);
        }
        0x100..=0xffff => {
            head[1..3].copy_from_slice(&(argument as u16).to_be_bytes());
            3
        }
        0x1_0000..=0xffff_ffff => {
            head[1..5].copy_from_slice(&(argument as u32).to_be_bytes());
            5
        }
        _ => {
            head[1..].copy_from_slice(&argument.to_be_bytes());
            9
        }
    };
    head[0] = first | (24 + (size as u8 - 1).trailing_zeros() as u8);
    (head, size)
}

/// How the keys `a` and `b` stand to each other in a canonical map: the bytewise order of their encoding.
///
/// The head of a text grows with its length, so this is the shorter first and then byte by byte.
#[inline]
pub fn key_order(a: &str, b: &str) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

/// The order in which a canonical map holds the fields of a record or the parameters of a function, as positions in
/// `fields`.
pub fn canonical_order(fields: &[Field]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_unstable_by(|&a, &b| key_order(&fields[a].name, &fields[b].name));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_take_the_fewest_bytes_and_are_read_back() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 24]),
            (0xff, &[0x18, 0xff]),
            (0x100, &[0x19, 1, 0]),
            (0xffff, &[0x19, 0xff, 0xff]),
            (0x1_0000, &[0x1a, 0, 1, 0, 0]),
            (0xffff_ffff, &[0x1a, 0xff, 0xff, 0xff, 0xff]),
            (0x1_0000_0000, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let mut writer = Writer::default();
            writer.uint(value);
            assert_eq!(writer.as_bytes(), bytes);
            assert_eq!(Reader::new(bytes).read_int(), Ok(value.into()));
        }
        for value in [-1, -24, -25, -257, i64::MIN, i64::MAX] {
            let mut writer = Writer::default();
            writer.sint(value);
            assert_eq!(Reader::new(writer.as_bytes()).read_int(), Ok(value.into()));
        }
    }

    #[test]
    fn a_failed_read_stays_where_it_was() {
        let mut reader = Reader::new(b"\x01\x62ab\x5f");
        assert_eq!(reader.read_text(), Err(Flaw { at: 0, what: "text is expected" }));
        assert_eq!(reader.read_int(), Ok(1));
        assert!(
            reader.read_bytes().is_err()
                && reader.read_null().is_err()
                && reader.read_map().is_err()
        );
        assert_eq!(reader.read_text(), Ok("ab"));
        assert_eq!(reader.read_bytes(), Err(Flaw { at: 4, what: "an indefinite length" }));
        assert_eq!((reader.position(), reader.rest()), (4, &b"\x5f"[..]));
        assert!(reader.finish().is_err());
    }

    #[test]
    fn skipping_moves_past_a_whole_item() {
        for item in
            [&b"\x82\xa1\x61a\x43abc\xf6"[..], b"\xc1\xc1\x00", b"\xfb\0\0\0\0\0\0\0\0", b"\xa0"]
        {
            let followed = [item, &[0x07]].concat();
            let mut reader = Reader::new(&followed);
            reader.skip().unwrap();
            assert_eq!(reader.read_int(), Ok(7));
            for end in 0..item.len() {
                assert!(Reader::new(&item[..end]).skip().is_err());
            }
        }
    }

    #[test]
    fn keys_are_in_the_order_of_their_encoding() {
        let mut keys = vec![
            "b",
            "aa",
            "",
            "a",
            "ab",
            "twenty-three-bytes-name",
            "twenty-four-bytes-named-",
            "z",
        ];
        keys.sort_by(|a, b| key_order(a, b));
        let encoded = |key: &&str| {
            let mut writer = Writer::default();
            writer.text(key);
            writer.into_bytes()
        };
        assert!(keys.is_sorted_by_key(encoded), "{keys:?}");
    }
}
