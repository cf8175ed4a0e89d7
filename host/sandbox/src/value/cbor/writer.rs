//! Writes CBOR item by item, each in its shortest form.

use half::f16;

use super::Major;

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
pub(in crate::value) fn encode_head(major: Major, argument: u64) -> ([u8; 9], usize) {
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
