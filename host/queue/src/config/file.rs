//! `omniq.toml`: text to keys, values and the lines they stand on. What the values mean is none of its business.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use omniq_sandbox::inspect::nearest::suggestion;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Problem;
use super::table::{self, Row};

/// More than anybody writes by hand.
const MAX_BYTES: u64 = 1 << 20;

/// A value of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub row: &'static Row,
    pub text: String,
    pub line: usize,
}

/// Reads a file whole. `named_by` is the flag or variable that named it.
pub(crate) fn read(path: &Path, named_by: Option<&str>) -> Result<String, Problem> {
    let shown = path.display();
    let named = named_by.map(|by| format!(", which `{by}` names,")).unwrap_or_default();
    let unreadable = |error: std::io::Error| {
        Problem::general(format!("the file of settings `{shown}`{named} cannot be read: {error}"))
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!(
            "the file of settings `{shown}`{named} is larger than 1 MiB; is it the right file?"
        );
        return Err(Problem::general(text));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        Problem::general(format!("`{shown}` line {line} is not UTF-8, as TOML must be"))
    })
}

/// The values of a text, and what is wrong with the rest of it. Only what stands in `section` is looked at, if it is
/// given; the text must be TOML throughout.
pub(crate) fn parse(path: &Path, text: &str, section: Option<&str>) -> (Vec<Entry>, Vec<Problem>) {
    let mut parser =
        Parser { path, text, only: section, entries: Vec::new(), problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(root) => parser.root(root.get_ref()),
        // Its own text would quote the line, which may hold a password.
        Err(error) => {
            let line = parser.line(error.span().map_or(0, |span| span.start));
            let shown = path.display();
            parser.problems.push(Problem::general(format!(
                "`{shown}` line {line} is not TOML: {}",
                error.message()
            )));
        }
    }
    parser.entries.sort_by_key(|entry| entry.line);
    (parser.entries, parser.problems)
}

type Key<'i> = Spanned<DeString<'i>>;
type Item<'i> = Spanned<DeValue<'i>>;

struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
    /// The section that is looked at, if not all are.
    only: Option<&'a str>,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    /// The line of a place in the text, counted from 1.
    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn problem(&mut self, at: usize, what: &str) {
        let text = format!("`{}` line {}: {what}", self.path.display(), self.line(at));
        self.problems.push(Problem::general(text));
    }

    fn root(&mut self, root: &DeTable<'_>) {
        for (key, value) in root {
            let name: &str = key.get_ref();
            if self.only.is_some_and(|only| only != name) {
                continue;
            }
            match value.get_ref() {
                DeValue::Table(section) if table::sections().any(|known| known == name) => {
                    for (inner, value) in section {
                        self.entry(name, inner, value);
                    }
                }
                _ if table::sections().any(|known| known == name) => {
                    self.problem(
                        key.span().start,
                        &format!("`{name}` is a section: write `[{name}]`"),
                    );
                }
                DeValue::Table(_) => {
                    let hint =
                        hint(suggestion(name, table::sections()).map(|name| format!("[{name}]")));
                    self.problem(
                        key.span().start,
                        &format!("there is no section `[{name}]`{hint}"),
                    );
                }
                _ => {
                    let hint = hint(self.nearest("", name));
                    self.problem(key.span().start, &format!("there is no setting `{name}`{hint}"));
                }
            }
        }
    }

    fn entry(&mut self, section: &str, key: &Key<'_>, value: &Item<'_>) {
        let name = format!("{section}.{}", key.get_ref());
        let Some(row) = table::row(&name) else {
            let hint = hint(self.nearest(section, key.get_ref()));
            self.problem(key.span().start, &format!("there is no setting `{name}`{hint}"));
            return;
        };
        match text_of(value.get_ref()) {
            Ok(text) => {
                let line = self.line(value.span().start);
                self.entries.push(Entry { row, text, line });
            }
            Err(is) => {
                let forms = row.forms;
                self.problem(
                    value.span().start,
                    &format!("`{name}` cannot be {is}: write {forms}"),
                );
            }
        }
    }

    /// The setting that was meant: one of the same section, or one of the same name elsewhere.
    fn nearest(&self, section: &str, name: &str) -> Option<String> {
        let last = |key: &'static str| key.rsplit_once('.').map_or(key, |(_, last)| last);
        let own =
            table::ROWS.iter().filter(|row| row.section() == section).map(|row| last(row.key));
        if let Some(found) = suggestion(name, own) {
            return Some(format!("{section}.{found}"));
        }
        let other = table::ROWS.iter().find(|row| last(row.key).eq_ignore_ascii_case(name));
        other.map(|row| row.key.to_owned())
    }
}

fn hint(name: Option<String>) -> String {
    match name {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::from("; `omniq help configuration` lists all there are"),
    }
}

/// A value as a variable would hold it; what it is if that cannot be.
fn text_of(value: &DeValue<'_>) -> Result<String, &'static str> {
    Ok(match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => {
            let value = u64::from_str_radix(number.as_str(), number.radix());
            value.map_err(|_| "a number as large as this")?.to_string()
        }
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => return Err("a date"),
        DeValue::Array(_) => return Err("a list"),
        DeValue::Table(entries) => return json_of(entries),
    })
}

/// A table of names and texts, as the variables write it: JSON.
fn json_of(entries: &DeTable<'_>) -> Result<String, &'static str> {
    let mut object = serde_json::Map::new();
    for (key, value) in entries {
        let DeValue::String(text) = value.get_ref() else {
            return Err("a table of anything but texts");
        };
        object.insert(key.get_ref().clone().into_owned(), text.clone().into_owned().into());
    }
    Ok(serde_json::Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, entries: &[(&str, &str, usize)], problems: &[&str]) {
        let (read, wrong) = parse(Path::new("omniq.toml"), text, None);
        let read: Vec<_> =
            read.iter().map(|entry| (entry.row.key, &*entry.text, entry.line)).collect();
        assert_eq!(read, entries, "{text}");
        let wrong: Vec<_> = wrong.iter().map(|problem| &*problem.text).collect();
        assert_eq!(wrong.len(), problems.len(), "{wrong:?}");
        for (wrong, expected) in wrong.iter().zip(problems) {
            assert!(wrong.starts_with("`omniq.toml` line "), "{wrong}");
            assert!(wrong.contains(expected), "{wrong} has no {expected}");
        }
    }

    #[test]
    fn values_keep_their_lines() {
        check(
            "# ours\n[log]\nlevel = 'DEBUG'\ndisable = false\n\n[defaults]\ntimeout = 30\nttl = 1.5\n",
            &[
                ("log.level", "DEBUG", 3),
                ("log.disable", "false", 4),
                ("defaults.timeout", "30", 7),
                ("defaults.ttl", "1.5", 8),
            ],
            &[],
        );
        check(
            "log.level = \"INFO\"\nretry = { attempts = 0x10 }",
            &[("log.level", "INFO", 1), ("retry.attempts", "16", 2)],
            &[],
        );
        check(
            "[log.components]\nstore = 'DEBUG'\n",
            &[("log.components", r#"{"store":"DEBUG"}"#, 1)],
            &[],
        );
        check("", &[], &[]);
    }

    #[test]
    fn what_is_unknown_is_named_with_its_line_and_the_nearest() {
        check(
            "[log]\nlevle = 'INFO'\n",
            &[],
            &["line 2: there is no setting `log.levle`; did you mean `log.level`?"],
        );
        check(
            "[worker]\nmax = 3\n",
            &[],
            &["line 1: there is no section `[worker]`; did you mean `[workers]`?"],
        );
        check(
            "[task]\n[zzz]\n",
            &[],
            &["did you mean `[tasks]`?", "line 2: there is no section `[zzz]`; `omniq help"],
        );
        check(
            "attempts = 3\n",
            &[],
            &["line 1: there is no setting `attempts`; did you mean `retry.attempts`?"],
        );
        check(
            "[log]\ntimeout = 3\n",
            &[],
            &["line 2: there is no setting `log.timeout`; did you mean `defaults.timeout`?"],
        );
        check("log = 3\n", &[], &["line 1: `log` is a section: write `[log]`"]);
    }

    #[test]
    fn what_is_no_value_says_what_is() {
        check(
            "[retry]\nattempts = [3]\n",
            &[],
            &["line 2: `retry.attempts` cannot be a list: write a whole number"],
        );
        check(
            "[defaults]\nttl = 2026-01-01\n",
            &[],
            &["`defaults.ttl` cannot be a date: write a time"],
        );
        check("[log.components]\nstore = 3\n", &[], &["a table of anything but texts"]);
    }

    #[test]
    fn broken_text_names_its_line_and_quotes_nothing() {
        let text = "[tasks]\ntype = 'redis'\nurl = 'redis://:secret@host\n";
        check(text, &[], &["line 3 is not TOML"]);
        let (_, problems) = parse(Path::new("omniq.toml"), text, None);
        assert!(!problems[0].text.contains("secret"), "{problems:?}");
        check(
            "[log]\nlevel = 'INFO'\nlevel = 'DEBUG'\n",
            &[],
            &["line 3 is not TOML: duplicate key"],
        );
    }

    #[test]
    fn one_section_alone_leaves_the_mistakes_of_others() {
        let text =
            "nonsense = 1\n[tsks]\n[retry]\natempts = 3\n[log]\nlevel = 'INFO'\nlevle = 'INFO'\n";
        let (entries, problems) = parse(Path::new("omniq.toml"), text, Some("log"));
        assert_eq!(entries.len(), 1);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].text.contains("log.levle"));
    }
}
