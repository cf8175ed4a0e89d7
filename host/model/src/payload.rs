//! Bytes that carry a value, and how to read them.

use crate::record::numbered;
use serde::{Deserialize, Serialize};

numbered! {
    /// How the bytes of a [`Payload`] are written.
    pub enum Format {
        /// Deterministic CBOR (RFC 8949 §4.2.1), one item: what is stored and hashed.
        Cbor = 0 "cbor",
        /// One JSON document (RFC 8259), UTF-8: the friendly edge.
        Json = 1 "json",
        /// Bytes that OmniQ does not look into.
        Raw = 2 "raw",
    }
}

/// A value in its stored form. In CBOR: an array of format and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Payload {
    /// How to read [`Self::bytes`].
    pub format: Format,
    /// The value itself.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// A payload of CBOR bytes; that they are well formed is the caller's word.
    pub fn cbor(bytes: impl Into<Vec<u8>>) -> Self {
        Self { format: Format::Cbor, bytes: bytes.into() }
    }

    /// A payload of bytes that mean nothing to OmniQ.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { format: Format::Raw, bytes: bytes.into() }
    }
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.format, serde_bytes::Bytes::new(&self.bytes)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (format, bytes) = <(Format, serde_bytes::ByteBuf)>::deserialize(deserializer)?;
        Ok(Self { format, bytes: bytes.into_vec() })
    }
}
