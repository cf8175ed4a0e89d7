//! The first page of a file: what the code after it belongs to, and the proof that this installation wrote it.

use super::Key;
use super::secret::Secret;

/// One page, so that code starts at a page boundary of the file too: the kernel copies page to page.
pub(super) const LEN: usize = 4096;

const MAGIC: [u8; 8] = *b"OMNIQC\x00\x01";
const MAC: std::ops::Range<usize> = LEN - 32..LEN;

/// The code that a header vouches for.
pub(super) struct Code {
    /// Bytes of code.
    pub(super) len: u64,
    /// Their BLAKE3.
    pub(super) hash: [u8; 32],
}

/// Writes a header; everything it does not use is zero and authenticated too.
pub(super) fn encode(secret: &Secret, key: &Key, code: &Code) -> [u8; LEN] {
    let mut header = [0; LEN];
    let len = code.len.to_le_bytes();
    let fields: [&[u8]; 5] = [&MAGIC, &len, key.digest.as_bytes(), &key.engine, &code.hash];
    let mut at = 0;
    for field in fields {
        header[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    let mac = secret.authenticate(&header[..MAC.start]);
    header[MAC].copy_from_slice(mac.as_bytes());
    header
}

/// What code belongs to `key` according to `header`, unless that is not this installation's word.
pub(super) fn decode(secret: &Secret, key: &Key, header: &[u8; LEN]) -> Option<Code> {
    let (fields, mac) = header.split_last_chunk::<32>()?;
    // Comparing two `blake3::Hash` takes the same time wherever they differ.
    if secret.authenticate(fields) != *mac {
        return None;
    }
    let (magic, rest) = fields.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (digest, rest) = rest.split_first_chunk()?;
    let (engine, rest) = rest.split_first_chunk()?;
    let hash = *rest.first_chunk()?;
    let ours = *magic == MAGIC && digest == key.digest.as_bytes() && *engine == key.engine;
    ours.then_some(Code { len: u64::from_le_bytes(*len), hash })
}
