//! What a person should know about a configuration that is valid: settings of things this version does not have yet,
//! and variables that nobody reads.

use std::fmt;

use omniq_sandbox::inspect::nearest::suggestion;

use super::Config;
use super::setting::Pool;
use super::source::{FILE_VARIABLE, PREFIX, Sources};
use super::storage::Storage;
use super::table::{ROWS, known};
use super::url::StorageKind;

/// Whether work can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something asked for is not there, and nothing else depends on it.
    Warning,
    /// Going on would be something else than what was asked for.
    Error,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Whether work can go on.
    pub severity: Severity,
    /// The key of the setting; `None` where it is not about a known one.
    pub key: Option<&'static str>,
    /// For a person. Passwords are hidden.
    pub text: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Variables of development that no setting has: those of tests and scripts.
const OF_DEVELOPMENT: &[&str] = &[
    "OMNIQ_BINARY",
    "OMNIQ_COMPONENTS",
    "OMNIQ_DUCKDB",
    "OMNIQ_FAILPOINT",
    "OMNIQ_FUZZ_SECONDS",
    "OMNIQ_POLYGLOT",
];
/// Variables that begin like this belong to tests.
const OF_TESTS: &str = "OMNIQ_TEST_";

/// A warning for each variable that looks like ours and is none.
pub(super) fn unknown_variables(sources: &Sources) -> Vec<Notice> {
    let known = || ROWS.iter().flat_map(|row| row.variables.iter().copied()).chain([FILE_VARIABLE]);
    let is_known = |name: &str| {
        known().chain(OF_DEVELOPMENT.iter().copied()).any(|known| known == name)
            || name.starts_with(OF_TESTS)
    };
    let ours = sources.variables.keys().filter_map(|name| Some((name, name.strip_prefix(PREFIX)?)));
    let unknown = ours.filter(|(name, _)| !is_known(name));
    unknown
        .map(|(name, rest)| {
            // Without what all names share, which would make them all look alike.
            let nearest = suggestion(rest, known().filter_map(|name| name.strip_prefix(PREFIX)));
            let hint = match nearest {
                Some(near) => format!("did you mean `{PREFIX}{near}`?"),
                None => String::from("`omniq help configuration` lists all there are"),
            };
            let text = format!("the variable `{name}` means nothing to OmniQ; {hint}");
            Notice { severity: Severity::Warning, key: None, text }
        })
        .collect()
}

/// Whether this build keeps anything in storages of that kind.
fn is_here(kind: StorageKind) -> bool {
    match kind {
        StorageKind::Memory => true,
        StorageKind::Sqlite => cfg!(feature = "sqlite"),
        StorageKind::File => cfg!(feature = "object"),
        StorageKind::Redis => cfg!(feature = "redis"),
        StorageKind::Nats => cfg!(feature = "nats"),
        StorageKind::Postgres => cfg!(feature = "postgres"),
    }
}

/// The kinds of storages this build has, for people.
fn kinds_here() -> String {
    let all = [
        StorageKind::Sqlite,
        StorageKind::File,
        StorageKind::Postgres,
        StorageKind::Redis,
        StorageKind::Nats,
    ];
    let here = all.into_iter().filter(|kind| is_here(*kind));
    here.map(|kind| format!("`{kind}`, ")).collect::<String>() + "`memory`"
}

impl Config {
    /// What was asked for and is not there yet in this version: a storage is an error, since work would go elsewhere; a
    /// dashboard is a warning.
    pub fn unsupported(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let storages =
            [("tasks", &self.tasks), ("results", &self.results), ("events", &self.events)];
        notices.extend(
            storages.into_iter().filter_map(|(what, storage)| self.missing_storage(what, storage)),
        );
        notices.extend(self.missing_objects());
        if matches!(self.workers.pool, Pool::Process | Pool::Green) {
            let text = format!(
                "{} asks for the pool `{}`, which this version does not have yet; it has `async` and `thread`",
                self.name("workers.pool"),
                self.workers.pool
            );
            notices.push(Notice { severity: Severity::Error, key: Some("workers.pool"), text });
        }
        let mut warn = |key, what: &str| {
            let text =
                format!("{} asks for {what}, which this version does not have yet", self.name(key));
            notices.push(Notice { severity: Severity::Warning, key: Some(key), text });
        };
        if self.workers.processes.is_some() {
            warn("workers.processes", "the pool `process`");
        }
        if self.workers.green.is_some() {
            warn("workers.green", "the pool `green`");
        }
        if self.dashboard.enabled {
            warn("dashboard.enabled", "the dashboard");
        }
        if self.origin("dashboard.port").is_set() {
            warn("dashboard.port", "a port of the dashboard");
        }
        notices
    }

    /// Refuses what [`Self::unsupported`] calls an error; what remains are warnings.
    ///
    /// # Errors
    /// A storage or a pool was asked for that this version does not have yet.
    pub fn supported(&self) -> Result<Vec<Notice>, super::Error> {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            self.unsupported().into_iter().partition(|notice| notice.severity == Severity::Error);
        let problems =
            errors.into_iter().map(|notice| super::Problem { key: notice.key, text: notice.text });
        super::Error::unless_empty(problems.collect())?;
        Ok(warnings)
    }

    fn missing_storage(&self, what: &str, storage: &Storage) -> Option<Notice> {
        if is_here(storage.kind) {
            return None;
        }
        let keys: [&'static str; 2] = match what {
            "tasks" => ["tasks.url", "tasks.type"],
            "results" => ["results.url", "results.type"],
            _ => ["events.url", "events.type"],
        };
        // One that follows another has been spoken of there.
        let key = keys.into_iter().find(|key| self.origin(key).is_set())?;
        let text = format!(
            "{} asks for {what} in `{}`, which this version does not have yet; it has {}",
            self.name(key),
            storage.kind,
            kinds_here()
        );
        Some(Notice { severity: Severity::Error, key: Some(key), text })
    }

    fn missing_objects(&self) -> Option<Notice> {
        let url = self.objects.url.as_ref()?;
        if url.kind().is_some_and(is_here) {
            return None;
        }
        let text = format!(
            "{} asks for modules in `{url}`, which this version does not have yet; it keeps them beside the tasks",
            self.name("objects.url")
        );
        Some(Notice { severity: Severity::Error, key: Some("objects.url"), text })
    }

    /// The setting as its author knows it.
    fn name(&self, key: &'static str) -> String {
        self.origin(key).name(known(key))
    }
}
