//! Finds fields, cases and labels by name.
//!
//! Names are kebab-case. The keys of records and the names of arguments may also come in snake_case or camelCase, as
//! many languages write them, where that can mean one of them only; an exact name always wins.

use std::collections::HashMap;

use omniq_model::wit::{Case, Field};

/// From this many names on, a search builds an index first: a hostile component may declare thousands.
const INDEXED_FROM: usize = 24;

/// Something with a name.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl Named for Field {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Case {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for String {
    fn name(&self) -> &str {
        self
    }
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    At(usize),
    Nowhere,
    /// It is the other spelling of two names or more.
    Ambiguous,
}

/// Remembers the indexes of the long lists of one type.
#[derive(Debug, Default)]
pub(super) struct Names<'t> {
    // By the address of the list: it belongs to a type that is borrowed for as long as this exists.
    indexes: HashMap<usize, Index<'t>>,
}

#[derive(Debug)]
struct Index<'t> {
    exact: HashMap<&'t str, usize>,
    other: HashMap<String, Found>,
}

impl<'t> Names<'t> {
    /// The item of exactly this name.
    #[inline]
    pub fn find<T: Named>(&mut self, items: &'t [T], name: &str) -> Option<usize> {
        if items.len() < INDEXED_FROM {
            return items.iter().position(|item| item.name() == name);
        }
        self.index(items).exact.get(name).copied()
    }

    /// The item of this name, or the one that this is the snake_case or camelCase of.
    #[inline]
    pub fn find_spelled<T: Named>(&mut self, items: &'t [T], key: &str) -> Found {
        if let Some(at) = self.find(items, key) {
            return Found::At(at);
        }
        if items.len() < INDEXED_FROM {
            return search(items, key);
        }
        self.index(items).other.get(key).copied().unwrap_or(Found::Nowhere)
    }

    fn index<T: Named>(&mut self, items: &'t [T]) -> &Index<'t> {
        self.indexes.entry(items.as_ptr().addr()).or_insert_with(|| Index::new(items))
    }
}

impl<'t> Index<'t> {
    fn new<T: Named>(items: &'t [T]) -> Self {
        let exact = items.iter().enumerate().map(|(at, item)| (item.name(), at)).collect();
        let mut other: HashMap<String, Found> = HashMap::new();
        for (at, item) in items.iter().enumerate() {
            for spelling in [snake(item.name()), camel(item.name())] {
                let found = other.entry(spelling).or_insert(Found::At(at));
                if *found != Found::At(at) {
                    *found = Found::Ambiguous;
                }
            }
        }
        Self { exact, other }
    }
}

#[cold]
fn search<T: Named>(items: &[T], key: &str) -> Found {
    let mut matching =
        items.iter().enumerate().filter(|(_, item)| is_spelling_of(item.name(), key));
    match (matching.next(), matching.next()) {
        (None, _) => Found::Nowhere,
        (Some((at, _)), None) => Found::At(at),
        (Some(_), Some(_)) => Found::Ambiguous,
    }
}

fn is_spelling_of(name: &str, key: &str) -> bool {
    snake(name) == key || camel(name) == key
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(chars.as_str());
    }
    camel
}

/// The name that `key` was probably meant to be: the one with the fewest edits between them, if they are few.
#[cold]
pub(super) fn nearest<'t, T: Named>(items: &'t [T], key: &str) -> Option<&'t str> {
    const LONGEST: usize = 64;
    if key.len() > LONGEST {
        return None;
    }
    let key: Vec<u8> = key
        .bytes()
        .map(|byte| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
        .collect();
    let names = items.iter().take(256).map(Named::name).filter(|name| name.len() <= LONGEST);
    let (edits, name) = names.map(|name| (edits(&key, name.as_bytes()), name)).min()?;
    (edits <= key.len().max(2).div_ceil(3)).then_some(name)
}

/// Insertions, deletions and replacements that make `a` into `b` (Levenshtein).
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], key: &str) -> Found {
        let short: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut long = short.clone();
        long.extend((0..INDEXED_FROM).map(|number| format!("filler{number}")));
        let found = Names::default().find_spelled(&short, key);
        assert_eq!(found, Names::default().find_spelled(&long, key), "with an index: `{key}`");
        found
    }

    #[test]
    fn a_key_is_found_in_three_spellings() {
        let names = ["max-size", "b", "HTTP-port"];
        for key in ["max-size", "max_size", "maxSize"] {
            assert_eq!(found(&names, key), Found::At(0));
        }
        for key in ["HTTP_port", "HTTPPort"] {
            assert_eq!(found(&names, key), Found::At(2));
        }
        for key in ["", "MaxSize", "maxsize", "max__size", "max-size-", "B"] {
            assert_eq!(found(&names, key), Found::Nowhere, "`{key}`");
        }
    }

    #[test]
    fn an_exact_name_wins_and_two_meanings_are_refused() {
        assert_eq!(found(&["a-1", "a1"], "a1"), Found::At(1));
        assert_eq!(found(&["a-1-b", "a1-b"], "a1B"), Found::Ambiguous);
        assert_eq!(found(&["a-1-b", "a1-b"], "a1_b"), Found::At(1));
    }

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let names = ["price", "max-size"].map(str::to_owned);
        assert_eq!(nearest(&names, "prise"), Some("price"));
        assert_eq!(nearest(&names, "MAX_SIZ"), Some("max-size"));
        assert_eq!(nearest(&names, "colour"), None);
        assert_eq!(nearest::<String>(&[], "x"), None);
    }
}
