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

mod canonical;
mod exact;
mod reader;
mod writer;

pub use canonical::canonicalize;
pub(super) use canonical::{Canonicalizer, Left, describe};
pub(super) use exact::is_canonical_map;
pub use reader::Reader;
pub use writer::Writer;
pub(super) use writer::encode_head;

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
