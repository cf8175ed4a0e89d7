//! A map of few entries, most of the time: a list is faster then. A hostile component may make it thousands.

use std::collections::HashMap;
use std::hash::Hash;

/// From this many entries on there is an index.
const INDEXED_FROM: usize = 24;

/// A map that only grows; each key is inserted once.
#[derive(Debug)]
pub(crate) struct Few<K, V> {
    entries: Vec<(K, V)>,
    /// Where each key stands; empty while there are few.
    index: HashMap<K, usize>,
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V> Few<K, V> {
    /// What was inserted for that key.
    #[inline]
    pub fn get(&self, key: K) -> Option<&V> {
        if self.index.is_empty() {
            return self.entries.iter().find(|(known, _)| *known == key).map(|(_, value)| value);
        }
        self.index.get(&key).map(|&at| &self.entries[at].1)
    }

    /// Adds what is not there yet.
    pub fn insert(&mut self, key: K, value: V) {
        self.entries.push((key, value));
        let indexed = match self.entries.len() {
            ..INDEXED_FROM => return,
            INDEXED_FROM => 0,
            more => more - 1,
        };
        let new = self.entries.iter().enumerate().skip(indexed);
        self.index.extend(new.map(|(at, (key, _))| (*key, at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_by_list_and_by_index() {
        let mut few = Few::default();
        for key in 0..100_u32 {
            assert_eq!(few.get(key), None);
            few.insert(key, key * 2);
            assert!((0..=key).all(|known| few.get(known) == Some(&(known * 2))), "{key}");
            // Many are never looked through one by one.
            assert_eq!(few.index.len(), if key < 23 { 0 } else { key as usize + 1 });
        }
    }
}
