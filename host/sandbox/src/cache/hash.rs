//! BLAKE3 of megabytes of code, on several cores: it is most of what a start waits for.

use std::thread;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};

/// What one thread hashes. Below it, starting a thread costs more than it saves; a power of two.
const PIECE_LEN: usize = 4 << 20;

/// The BLAKE3 hash of `code`, exactly as [`blake3::hash`] gives it.
pub(super) fn blake3(code: &[u8]) -> [u8; 32] {
    if code.len() <= PIECE_LEN {
        return *blake3::hash(code).as_bytes();
    }
    let (left, right) = both_halves(code, 0);
    *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
}

/// The two subtrees of `code`, which starts `offset` bytes into the whole (BLAKE3 paper, section 2.1).
fn both_halves(code: &[u8], offset: u64) -> (ChainingValue, ChainingValue) {
    let split = left_subtree_len(code.len() as u64);
    let (left, right) = code.split_at(split as usize);
    thread::scope(|scope| {
        // A process that may start no more threads does both halves itself.
        let other = thread::Builder::new().spawn_scoped(scope, || subtree(right, offset + split));
        let left = subtree(left, offset);
        let right = match other.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(right)) => right,
            Ok(Err(_)) | Err(_) => subtree(right, offset + split),
        };
        (left, right)
    })
}

fn subtree(code: &[u8], offset: u64) -> ChainingValue {
    if code.len() <= PIECE_LEN {
        return blake3::Hasher::new().set_input_offset(offset).update(code).finalize_non_root();
    }
    let (left, right) = both_halves(code, offset);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_standard_hash_at_every_shape_of_the_tree() {
        let code: Vec<u8> = (0..5 * PIECE_LEN + 1).map(|index| (index / 3) as u8).collect();
        let around = |len: usize| [len - 1, len, len + 1];
        let lens = [1, 2, 3, 4, 5].into_iter().flat_map(|pieces| around(pieces * PIECE_LEN));
        for len in lens.chain([0, 1, 1024, 1025]) {
            let code = &code[..len];
            assert_eq!(blake3(code), *blake3::hash(code).as_bytes(), "{len} bytes");
        }
    }
}
