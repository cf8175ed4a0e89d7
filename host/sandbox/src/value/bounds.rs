//! How large a value may be, checked while it is read and before anything is allocated for it.

/// The most a value may nest, hold and weigh.
///
/// Values are read in one pass that follows their type, so these bounds hold for the work done as well as for the
/// result: nothing is built first and measured later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Levels of nesting: the elements of a list are one level below it. Default 64, at most [`Bounds::MAX_DEPTH`].
    pub depth: u32,
    /// Values of any type, all levels together. Text and `list<u8>` count as one each. Default 1 000 000.
    pub items: u64,
    /// Bytes of the value's canonical CBOR, and of CBOR given as input. Default 8 MiB.
    pub bytes: usize,
}

impl Bounds {
    /// The deepest nesting that can be allowed; a larger [`Bounds::depth`] counts as this.
    pub const MAX_DEPTH: u32 = 100;

    /// The default bounds with room for `bytes` bytes.
    pub fn with_bytes(bytes: usize) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { depth: 64, items: 1_000_000, bytes: 8 << 20 }
    }
}
