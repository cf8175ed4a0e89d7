//! What a run may touch: each option names one thing, nothing is granted otherwise.

use std::env::{self, VarError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use omniq_model::Kind;
use omniq_sandbox::import::http::HostPattern;
use omniq_sandbox::import::keyvalue::{Buckets, MemoryBucket};
use omniq_sandbox::{Grants, Random};

use super::clock::ClockArg;
use crate::output::problem::Problem;

/// The heading these options stand under in the help.
pub const HEADING: &str =
    "Grants (nothing is granted unless it is named; repeat an option to grant more)";

/// What a run may touch.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = HEADING)]
pub struct GrantArgs {
    /// HTTP requests to a host, such as `api.example.com` or `*.example.com`
    #[arg(long, value_name = "PATTERN")]
    grant_http: Vec<HostPattern>,
    /// An environment variable, with the value it has here or the one given
    #[arg(long, value_name = "NAME[=VALUE]")]
    grant_env: Vec<EnvArg>,
    /// A directory; the guest sees it under the same name or as GUEST, and may change it with `:rw`
    #[arg(long, value_name = "HOST[:GUEST][:ro|:rw]")]
    grant_dir: Vec<DirArg>,
    /// A setting, through `wasi:config`
    #[arg(long, value_name = "NAME=VALUE")]
    grant_config: Vec<ConfigArg>,
    /// A key-value bucket, through `wasi:keyvalue`; it is empty at the start and forgotten at the end
    #[arg(long, value_name = "NAME")]
    grant_kv: Vec<String>,
    /// What the clocks show: `real`, or a moment such as `2026-01-31T12:00:00Z` at which they stand still
    #[arg(long, value_name = "WHEN", default_value = "real")]
    clock: ClockArg,
    /// Makes randomness the same in every run with the same number
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl GrantArgs {
    /// The grants of the call.
    ///
    /// # Errors
    /// A variable or directory is named that does not exist, or a directory that another grant lets the guest change.
    pub fn grants(&self) -> Result<Grants, Problem> {
        let mut grants = Grants::default();
        grants.http.clone_from(&self.grant_http);
        for EnvArg { name, value } in &self.grant_env {
            let value = value.clone().map_or_else(|| inherited(name), Ok)?;
            grants.env.insert(name.clone(), value);
        }
        for DirArg { host, guest, writable } in &self.grant_dir {
            check_directory(host)?;
            grants.grant_dir(host, guest, *writable).map_err(|error| {
                Problem::new(Kind::Usage, error.to_string())
                    .hint("grant directories that lie apart, or the outer one without `:rw`")
            })?;
        }
        for ConfigArg { name, value } in &self.grant_config {
            grants.config.insert(name.clone(), value.clone());
        }
        if !self.grant_kv.is_empty() {
            let buckets = self
                .grant_kv
                .iter()
                .fold(Buckets::new(), |buckets, name| buckets.with(name, MemoryBucket::default()));
            grants.keyvalue = Some(Arc::new(buckets));
        }
        grants.clock = self.clock.0;
        grants.random = self.seed.map_or(Random::Real, Random::Seeded);
        Ok(grants)
    }
}

/// The value a variable has in our own environment.
fn inherited(name: &str) -> Result<String, Problem> {
    env::var(name).map_err(|error| {
        let what = match error {
            VarError::NotPresent => "is not set here",
            VarError::NotUnicode(_) => "is not text in UTF-8",
        };
        Problem::new(Kind::Usage, format!("the environment variable `{name}` {what}"))
            .hint(format!("give its value with `--grant-env {name}=VALUE`"))
    })
}

fn check_directory(path: &Path) -> Result<(), Problem> {
    if path.is_dir() {
        return Ok(());
    }
    let problem = if path.exists() { "is not a directory" } else { "does not exist" };
    Err(Problem::new(
        Kind::NotFound,
        format!("the granted directory `{}` {problem}", path.display()),
    )
    .hint("grant the directory a file lies in; the guest sees all of it"))
}

/// `NAME` or `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EnvArg {
    name: String,
    value: Option<String>,
}

impl FromStr for EnvArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || text.contains('\0') {
            return Err("write `NAME`, for the value it has here, or `NAME=VALUE`".to_owned());
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ConfigArg {
    name: String,
    value: String,
}

impl FromStr for ConfigArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("write `NAME=VALUE`".to_owned()),
        }
    }
}

/// `HOST[:GUEST][:ro|:rw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DirArg {
    host: PathBuf,
    guest: String,
    writable: bool,
}

impl FromStr for DirArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts: Vec<_> = text.split(':').collect();
        let writable = match parts.last() {
            Some(&"rw") if parts.len() > 1 => Some(true),
            Some(&"ro") if parts.len() > 1 => Some(false),
            _ => None,
        };
        if writable.is_some() {
            parts.pop();
        }
        let (host, guest) = match parts[..] {
            [host] => (host, host),
            [host, guest] => (host, guest),
            _ => ("", ""),
        };
        if host.is_empty() || guest.is_empty() {
            return Err("write `HOST`, `HOST:GUEST`, `HOST:rw` or `HOST:GUEST:rw`".to_owned());
        }
        let writable = writable.unwrap_or(false);
        Ok(Self { host: PathBuf::from(host), guest: guest.to_owned(), writable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_name_for_each_side_and_is_read_only_unless_said_otherwise() {
        for (text, expected) in [
            ("data", Some(("data", "data", false))),
            ("data:ro", Some(("data", "data", false))),
            ("data:rw", Some(("data", "data", true))),
            ("./out:/data", Some(("./out", "/data", false))),
            ("./out:/data:rw", Some(("./out", "/data", true))),
            ("rw", Some(("rw", "rw", false))),
            ("rw:rw", Some(("rw", "rw", true))),
            ("", None),
            (":rw", None),
            ("a:", None),
            (":b", None),
            ("a:b:c", None),
            ("a:b:c:rw", None),
        ] {
            let found = text.parse::<DirArg>().ok();
            let expected = expected.map(|(host, guest, writable)| DirArg {
                host: host.into(),
                guest: guest.to_owned(),
                writable,
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_variable_may_bring_its_value() {
        for (text, expected) in [
            ("HOME", Some(("HOME", None))),
            ("A=", Some(("A", Some("")))),
            ("A=b=c", Some(("A", Some("b=c")))),
            ("=b", None),
            ("", None),
        ] {
            let found = text.parse::<EnvArg>().ok().map(|env| (env.name, env.value));
            let expected = expected.map(|(name, value): (&str, Option<&str>)| {
                (name.to_owned(), value.map(str::to_owned))
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_setting_needs_a_value() {
        assert!("name".parse::<ConfigArg>().is_err());
        assert!("=value".parse::<ConfigArg>().is_err());
        assert_eq!("a=b=c".parse::<ConfigArg>().unwrap().value, "b=c");
    }
}
