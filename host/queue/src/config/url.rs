//! URLs of storages: which kind of storage a scheme stands for, and how one is shown without its password.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::path::Path;

use super::value::{Value, choice};

choice! {
    /// What kind of storage something lives in.
    pub enum StorageKind {
        /// In this process, and gone with it.
        Memory = "memory",
        /// A file of SQLite.
        Sqlite = "sqlite",
        /// Files, in a folder or in an object store.
        File = "file",
        /// A PostgreSQL server.
        Postgres = "postgres",
        /// A Redis or Valkey server.
        Redis = "redis",
        /// A NATS server with JetStream.
        Nats = "nats",
    }
    forms "`file`, `memory`, `sqlite`, `postgres`, `redis` or `nats`"
}

/// Schemes and the kind of storage each stands for.
const SCHEMES: &[(&str, StorageKind)] = &[
    ("memory", StorageKind::Memory),
    ("sqlite", StorageKind::Sqlite),
    ("file", StorageKind::File),
    ("s3", StorageKind::File),
    ("az", StorageKind::File),
    ("gs", StorageKind::File),
    ("postgres", StorageKind::Postgres),
    ("postgresql", StorageKind::Postgres),
    ("redis", StorageKind::Redis),
    ("rediss", StorageKind::Redis),
    ("valkey", StorageKind::Redis),
    ("valkeys", StorageKind::Redis),
    ("nats", StorageKind::Nats),
    ("nats+tls", StorageKind::Nats),
];

/// The URL of a storage. It is shown, also by `Debug`, without the password it may hold.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StorageUrl(String);

impl StorageUrl {
    /// The URL of the SQLite file at `path`.
    pub fn sqlite(path: &Path) -> Self {
        Self(format!("sqlite:{}", path.display()))
    }

    /// The URL of storage inside the process.
    pub fn memory() -> Self {
        Self(String::from("memory:"))
    }

    /// The whole of it, password included: to connect with, never to show.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon; `None` where what was written is a plain path or name.
    pub fn scheme(&self) -> Option<&str> {
        let (scheme, _) = self.0.split_once(':')?;
        let mut characters = scheme.chars();
        let starts = characters.next().is_some_and(|first| first.is_ascii_alphabetic());
        let is_scheme =
            starts && characters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        is_scheme.then_some(scheme)
    }

    /// What its scheme stands for; `None` where it has none, or one that nobody knows.
    pub fn kind(&self) -> Option<StorageKind> {
        let scheme = self.scheme()?;
        SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, kind)| *kind)
    }

    /// The path of an SQLite file; `None` for other storages, and where none is named.
    pub fn sqlite_path(&self) -> Option<&Path> {
        if self.kind() != Some(StorageKind::Sqlite) {
            return None;
        }
        let (_, rest) = self.0.split_once(':')?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        (!path.is_empty() && path != ":memory:").then(|| Path::new(path))
    }

    /// The folder on this host that it names; `None` for other storages, and where none is named.
    pub fn folder_path(&self) -> Option<&Path> {
        let rest =
            self.0.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("file"))?.1;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        (!path.is_empty()).then(|| Path::new(path))
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hide(&self.0))
    }
}

impl fmt::Debug for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// URLs have no order; a setting's value must be comparable.
impl PartialOrd for StorageUrl {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Value for StorageUrl {
    const FORMS: &'static str =
        "a URL such as `sqlite:omniq.db`, `memory:`, `postgres://user@host/name`";

    fn read(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err(String::from("it holds control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// A text that may be a URL, without the password it may hold.
///
/// What is hidden is rather too much than too little: a password with `/`, `?` or `@` in it that nobody escaped is
/// hidden whole, and so is a user's name that may be a token.
pub(crate) fn hide(text: &str) -> Cow<'_, str> {
    let text = hide_user(text);
    match text.split_once('?') {
        Some((before, query)) if query.contains('=') => {
            let pairs: Vec<_> = query.split('&').map(hide_pair).collect();
            Cow::Owned(format!("{before}?{}", pairs.join("&")))
        }
        _ => text,
    }
}

/// Hides what stands between the user's name and the last `@`.
fn hide_user(text: &str) -> Cow<'_, str> {
    let Some((before, host)) = text.rsplit_once('@') else { return Cow::Borrowed(text) };
    let start = before
        .find("://")
        .map(|at| at + 3)
        .or_else(|| before.find(':').map(|at| at + 1))
        .unwrap_or(0);
    let (scheme, user) = before.split_at(start);
    let token_alone = ["nats", "redis", "valkey"].iter().any(|name| scheme.starts_with(name));
    match user.split_once(':') {
        Some((name, _)) => Cow::Owned(format!("{scheme}{name}:{HIDDEN}@{host}")),
        None if token_alone || !scheme.ends_with("://") => {
            Cow::Owned(format!("{scheme}{HIDDEN}@{host}"))
        }
        None => Cow::Borrowed(text),
    }
}

/// Hides the value of a query's parameter whose name says that it is a secret.
fn hide_pair(pair: &str) -> Cow<'_, str> {
    const SECRETS: &[&str] =
        &["pass", "pwd", "secret", "token", "key", "credential", "signature", "sig"];
    match pair.split_once('=') {
        Some((name, _))
            if SECRETS.iter().any(|secret| name.to_ascii_lowercase().contains(secret)) =>
        {
            Cow::Owned(format!("{name}={HIDDEN}"))
        }
        _ => Cow::Borrowed(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        for (text, shown) in [
            ("sqlite:.omniq/omniq.db", "sqlite:.omniq/omniq.db"),
            ("postgres://ada@db/jobs", "postgres://ada@db/jobs"),
            ("postgres://ada:pw@db/jobs", "postgres://ada:***@db/jobs"),
            ("postgres://ada:p@w:x/y?z@db:5432/jobs?a=b", "postgres://ada:***@db:5432/jobs?a=b"),
            (
                "postgres://db/jobs?user=ada&password=pw&sslmode=require",
                "postgres://db/jobs?user=ada&password=***&sslmode=require",
            ),
            ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
            ("nats://token@host", "nats://***@host"),
            ("redis:pw@host", "redis:***@host"),
            ("ada:pw@host", "ada:***@host"),
            (
                "s3://bucket?secret_access_key=abc&region=eu",
                "s3://bucket?secret_access_key=***&region=eu",
            ),
            ("pw", "pw"),
        ] {
            assert_eq!(hide(text), shown, "{text}");
            let url = StorageUrl::read(text).unwrap();
            assert_eq!(url.as_str(), text);
            assert_eq!(format!("{url} {url:?}"), format!("{shown} `{shown}`"));
        }
    }

    #[test]
    fn schemes_say_the_kind() {
        use StorageKind::*;
        for (text, kind, path) in [
            ("sqlite:a/b.db", Some(Sqlite), Some("a/b.db")),
            ("sqlite://a/b.db", Some(Sqlite), Some("a/b.db")),
            ("sqlite:///a/b.db", Some(Sqlite), Some("/a/b.db")),
            ("SQLite:x", Some(Sqlite), Some("x")),
            ("sqlite::memory:", Some(Sqlite), None),
            ("sqlite:", Some(Sqlite), None),
            ("memory:", Some(Memory), None),
            ("memory://", Some(Memory), None),
            ("file:///var/omniq", Some(File), None),
            ("s3://bucket", Some(File), None),
            ("postgresql://h/d", Some(Postgres), None),
            ("rediss://h", Some(Redis), None),
            ("nats://h", Some(Nats), None),
            ("mysql://h", None, None),
            ("a/b.db", None, None),
            ("a b:c", None, None),
            ("", None, None),
        ] {
            let url = StorageUrl(text.to_owned());
            assert_eq!((url.kind(), url.sqlite_path()), (kind, path.map(Path::new)), "{text}");
        }
        for (text, folder) in [
            ("file:a/b", Some("a/b")),
            ("file:///a", Some("/a")),
            ("FILE:a", Some("a")),
            ("file:", None),
            ("s3://bucket/a", None),
            ("sqlite:a", None),
        ] {
            let url = StorageUrl(text.to_owned());
            assert_eq!(url.folder_path(), folder.map(Path::new), "{text}");
        }
    }
}
