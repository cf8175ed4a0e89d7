//! Finds each setting's value in its sources, in the order of precedence, and notes where it came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use omniq_sandbox::inspect::nearest::suggestion;

use super::error::Problem;
use super::file::{self, Entry};
use super::origin::Origin;
use super::source::Sources;
use super::table::{self, ROWS, Row};
use super::url::hide;
use super::value::Value;

/// Reads values one by one and collects all that is wrong.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    sources: &'a Sources,
    path: PathBuf,
    entries: Vec<Entry>,
    /// Where each value came from that is not a default.
    pub origins: BTreeMap<&'static str, Origin>,
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads the file, if there is one, and looks for flags that set nothing. With `section`, nothing else is looked at
    /// in the file.
    pub fn new(sources: &'a Sources, section: Option<&str>) -> Self {
        let mut reader = Self {
            sources,
            path: PathBuf::new(),
            entries: Vec::new(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
        };
        if let Some((path, named_by)) = sources.chosen_file() {
            match file::read(&path, named_by) {
                Ok(text) => (reader.entries, reader.problems) = file::parse(&path, &text, section),
                Err(problem) => reader.problems.push(problem),
            }
            reader.path = path;
        }
        let unknown = sources.flags.iter().filter(|flag| table::row(&flag.key).is_none());
        reader.problems.extend(unknown.map(|flag| {
            let nearest = suggestion(&flag.key, ROWS.iter().map(|row| row.key));
            let hint = match nearest {
                Some(name) => format!("did you mean `{name}`?"),
                None => String::from("`omniq help configuration` lists all there are"),
            };
            Problem::general(format!("there is no setting `{}` ({}); {hint}", flag.key, flag.name))
        }));
        reader
    }

    /// The value of a setting; its default where nobody set it, or not to anything that can be.
    pub fn get<T: Value + PartialOrd>(&mut self, row: &'static Row) -> T {
        let default = || T::read(row.default).expect("a test reads every default");
        let (text, origin) = match self.find(row) {
            Ok(Some(found)) => found,
            Ok(None) => return default(),
            Err(problem) => {
                self.problems.push(problem);
                return default();
            }
        };
        match checked(row, &text) {
            Ok(value) => {
                self.origins.insert(row.key, origin);
                value
            }
            Err(more) => {
                let more = if more.is_empty() { more } else { format!(": {more}") };
                let text = format!(
                    "{} cannot be `{}`{more}; write {}",
                    origin.name(row),
                    hide(&text),
                    row.allowed()
                );
                self.problems.push(Problem::new(row.key, text));
                default()
            }
        }
    }

    /// Where the value of a setting came from.
    pub fn origin(&self, key: &'static str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Notes a mistake in the value of a setting.
    pub fn problem(&mut self, key: &'static str, text: impl Into<String>) {
        self.problems.push(Problem::new(key, text));
    }

    /// The text of a setting that is not empty, from the strongest source that has one.
    fn find(&self, row: &Row) -> Result<Option<(String, Origin)>, Problem> {
        let flag = self.sources.flags.iter().rev().find(|flag| flag.key == row.key);
        if let Some(flag) = flag.filter(|flag| !flag.text.trim().is_empty()) {
            return Ok(Some((flag.text.trim().to_owned(), Origin::Flag(flag.name.clone()))));
        }
        if let Some((name, text)) = self.variable(row)? {
            return Ok(Some((text, Origin::Variable(name.to_owned()))));
        }
        let entry = self.entries.iter().find(|entry| entry.row.key == row.key);
        let entry = entry.filter(|entry| !entry.text.trim().is_empty());
        Ok(entry.map(|entry| {
            let origin = Origin::File { path: self.path.clone(), line: entry.line };
            (entry.text.trim().to_owned(), origin)
        }))
    }

    /// The variable of a setting that is set, by whichever of its names.
    fn variable(&self, row: &Row) -> Result<Option<(&'static str, String)>, Problem> {
        let mut found: Option<(&'static str, String)> = None;
        for name in row.variables {
            let Some(value) = self.sources.variables.get(*name) else { continue };
            let Some(text) = value.to_str().map(str::trim) else {
                let text =
                    format!("`{name}` holds bytes that are not UTF-8; write {}", row.allowed());
                return Err(Problem::new(row.key, text));
            };
            match &found {
                _ if text.is_empty() => {}
                None => found = Some((name, text.to_owned())),
                Some((_, same)) if same == text => {}
                Some((other, different)) => {
                    let text = format!(
                        "`{other}` is `{different}` and `{name}` is `{text}`, but they are two names of one setting; drop one"
                    );
                    return Err(Problem::new(row.key, text));
                }
            }
        }
        Ok(found)
    }
}

/// Reads a text and holds it against the range of its setting.
fn checked<T: Value + PartialOrd>(row: &Row, text: &str) -> Result<T, String> {
    let value = T::read(text)?;
    if let Some((from, to)) = row.range {
        let bound = |text| T::read(text).expect("a test reads every range");
        if value < bound(from) {
            return Err(String::from("it is too little"));
        }
        if value > bound(to) {
            return Err(String::from("it is too much"));
        }
    }
    Ok(value)
}
