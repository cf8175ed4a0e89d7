//! Bytes that carry a value, and how to read them.

use serde::{Deserialize, Serialize};

/// How the bytes of a [`Payload`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Deterministic CBOR (RFC 8949 §4.2.1), one item: what is stored and hashed.
    Cbor,
    /// One JSON document (RFC 8259), UTF-8: the friendly edge.
    Json,
    /// Bytes that OmniQ does not look into.
    Raw,
}

/// A value in its stored form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
}
