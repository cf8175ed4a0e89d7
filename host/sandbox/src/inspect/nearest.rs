//! What somebody may have meant: the names closest to one that does not exist.

/// Longer names are compared by their first part only, so that the work stays bounded.
const MAX_LENGTH: usize = 64;

/// The items by their names, closest to `wanted` first; those equally close stay in their order.
pub(super) fn sorted_by<'a, T: ?Sized>(
    wanted: &str,
    mut items: Vec<&'a T>,
    name: impl Fn(&'a T) -> &'a str,
) -> Vec<&'a T> {
    let wanted = tail(wanted);
    items.sort_by_cached_key(|item| distance(&wanted, &tail(name(item))));
    items
}

/// The closest name, if it is close enough to be worth suggesting.
pub fn suggestion<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = tail(wanted);
    let (distance, nearest) = names
        .into_iter()
        .map(|name| (distance(&wanted, &tail(name)), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= wanted.len().div_ceil(3)).then_some(nearest)
}

/// How many characters must be added, dropped, replaced or swapped with their neighbour to get from one to the other.
///
/// The restricted Damerau-Levenshtein distance, row by row.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

/// The characters that are compared: the last ones, since names differ at their ends.
fn tail(name: &str) -> Vec<char> {
    let mut characters: Vec<_> = name.chars().rev().take(MAX_LENGTH).collect();
    characters.reverse();
    for character in &mut characters {
        *character = if *character == '_' { '-' } else { character.to_ascii_lowercase() };
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("resize", "resize", 0),
            ("resize", "reszie", 1),
            ("resize", "rezise", 2),
            ("add", "sub", 3),
            ("kitten", "sitting", 3),
        ] {
            let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
            assert_eq!(distance(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(distance(&b, &a), expected, "{b:?} {a:?}");
        }
    }

    #[test]
    fn suggests_what_is_close_and_nothing_else() {
        let names = ["resize", "render", "describe"];
        assert_eq!(suggestion("Resize", names), Some("resize"));
        assert_eq!(suggestion("rezise", names), Some("resize"));
        assert_eq!(suggestion("x", names), None);
        assert_eq!(suggestion("", names), None);
        assert_eq!(
            sorted_by("descibe", names.to_vec(), |name| name),
            ["describe", "resize", "render"]
        );
        assert_eq!(suggestion(&"a".repeat(100_000), names), None);
    }
}
