//! The settings in use as they are shown: row by row, and as a file that means the same.

use std::fmt::Write as _;

use serde_json::json;

use super::Config;
use super::storage::Storage;
use super::table::{Section as _, Shown, known};

impl Config {
    /// Every value in use with its origin, in the order of the documentation. Secrets are hidden.
    pub fn show(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        let sections = [
            self.data.show(),
            self.log.show(),
            of_storage("tasks.type", "tasks.url", &self.tasks),
            of_storage("results.type", "results.url", &self.results),
            of_storage("events.type", "events.url", &self.events),
            self.objects.show(),
            self.storage.show(),
            self.workers.show(),
            self.defaults.show(),
            self.retry.show(),
            self.retention.show(),
            self.limits.show(),
            self.cache.show(),
            self.dashboard.show(),
        ];
        for (key, text, json) in sections.into_iter().flatten() {
            shown.push(Shown { row: known(key), text, json, origin: self.origin(key) });
        }
        shown
    }

    /// An `omniq.toml` that means the same, if no password had to be hidden. What nobody set is a comment.
    ///
    /// With `origins`, each line ends with where its value came from.
    pub fn to_toml(&self, origins: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for shown in self.show() {
            if shown.row.section() != section {
                section = shown.row.section();
                let gap = if text.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{section}]");
            }
            let name = shown.row.key.rsplit_once('.').map_or(shown.row.key, |(_, name)| name);
            let _ = match (shown.text.is_empty(), shown.origin.is_set()) {
                (true, _) => write!(text, "# {name}: {}", shown.row.unset),
                (false, true) => write!(text, "{name} = {}", toml_of(&shown)),
                (false, false) => write!(text, "# {name} = {}", toml_of(&shown)),
            };
            let _ = match origins {
                true => writeln!(text, " # {}", shown.origin),
                false => writeln!(text),
            };
        }
        text
    }
}

fn of_storage(
    kind: &'static str,
    url: &'static str,
    storage: &Storage,
) -> Vec<(&'static str, String, serde_json::Value)> {
    let (name, shown) = (storage.kind.name(), storage.url.to_string());
    vec![(kind, name.to_owned(), json!(name)), (url, shown.clone(), json!(shown))]
}

/// A value in TOML: numbers and truths bare, a map as an inline table, all else as a text.
fn toml_of(shown: &Shown) -> String {
    match &shown.json {
        serde_json::Value::Object(entries) => {
            let pairs: Vec<_> =
                entries.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            if pairs.is_empty() {
                String::from("{}")
            } else {
                format!("{{ {} }}", pairs.join(", "))
            }
        }
        serde_json::Value::Bool(value) => value.to_string(),
        serde_json::Value::Number(_) if shown.text.bytes().all(|byte| byte.is_ascii_digit()) => {
            shown.text.clone()
        }
        _ => quoted(&shown.text),
    }
}

/// A basic string of TOML; its escapes are those of JSON but for the DEL that JSON leaves alone.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
