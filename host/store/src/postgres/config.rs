//! How a PostgreSQL database is opened.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::tls::{TlsFiles, Words};
use crate::{Clock, Durability, Error, Options, Result};

/// What a URL says about TLS.
pub(super) const TLS: Words = Words {
    files: ["sslrootcert", "sslcert", "sslkey"],
    plain: "write `sslmode=disable` if it has none",
};

/// How a store is told at once that another process has committed something.
#[derive(Clone, Default)]
pub(super) enum Listen {
    /// By `LISTEN` on a connection to the same address.
    #[default]
    Here,
    /// By `LISTEN` on a connection past the pooler.
    At(Box<PgConnectOptions>),
    /// It is not: it looks now and then.
    Off,
}

/// How a PostgreSQL database is opened. [`Config::new`] reads it from a URL, which `docs/postgres.md` describes.
#[derive(Clone)]
pub struct Config {
    pub(super) connect: PgConnectOptions,
    pub(super) listen: Listen,
    /// The schema that everything lives in. `?schema=`; default `omniq`.
    pub schema: String,
    /// What an answer has survived. `?durability=disk`, `os` or `none`; default: a loss of power.
    pub durability: Durability,
    /// What decides every deadline. Default `None`: the server's clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// Connections of this process at most, the listening one not counted. `?pool=`; default 8.
    pub connections: u32,
    /// A pooler in transaction mode stands in between: nothing is left in a session. `?pgbouncer=true`; default `false`.
    pub pooled: bool,
    /// How long a call may take, and how long it waits for a connection. `?timeout=`, in seconds; default 10 s.
    pub patience: Duration,
    /// What connections are encrypted with, where those are files.
    pub(super) tls: TlsFiles,
    /// Tells equal places apart from others, so that the stores of a process share what is open.
    pub(super) key: String,
}

/// What a URL may say beyond what every client of PostgreSQL knows.
const OURS: &str = "`schema`, `pool`, `pgbouncer`, `listen`, `durability` and `timeout`";
/// What the client library knows.
const THEIRS: [&str; 16] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

impl Config {
    /// The database that a URL names: `postgres://user:password@host:port/database?schema=omniq`.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) where the URL is not understood; it never repeats a password.
    pub fn new(url: &str) -> Result<Self> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut config = Self {
            connect: PgConnectOptions::new_without_pgpass(),
            listen: Listen::default(),
            schema: "omniq".into(),
            durability: Durability::default(),
            clock: None,
            connections: 8,
            pooled: false,
            patience: Duration::from_secs(10),
            tls: TlsFiles::default(),
            key: url.to_owned(),
        };
        let mut theirs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if THEIRS.contains(&name) || name == "options" || name.starts_with("options[") {
                config.note(name, value)?;
                theirs.push(pair);
            } else {
                config.set(name, value)?;
            }
        }
        let rest = if theirs.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", theirs.join("&"))
        };
        config.connect = connect_options(&rest)?;
        if query.split('&').all(|pair| !pair.starts_with("application_name=")) {
            config.connect = config.connect.application_name("omniq");
        }
        Ok(config)
    }

    pub(crate) fn of_url(url: &str, options: &Options) -> Result<Self> {
        let config = Self::new(url)?;
        let says = |name: &str| url.split(['?', '&']).any(|part| part.starts_with(name));
        Ok(Self {
            durability: if says("durability=") { config.durability } else { options.durability },
            patience: if says("timeout=") { config.patience } else { options.timeout },
            ..config
        })
    }

    /// Takes note of a file that the client library is to read, so that it can be looked at before.
    fn note(&mut self, name: &str, value: &str) -> Result<()> {
        let file = match name {
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => &mut self.tls.authority,
            "sslcert" | "ssl-cert" => &mut self.tls.certificate,
            "sslkey" | "ssl-key" => &mut self.tls.key,
            _ => return Ok(()),
        };
        let value = decoded(&value.replace('+', " ")).ok_or_else(|| {
            Error::Config(format!("`{name}` in the URL of PostgreSQL must be the name of a file"))
        })?;
        // It may also be what is in the file.
        if !value.trim_start().starts_with("-----BEGIN") {
            *file = Some(value.into());
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let bad =
            |what: &str| Error::Config(format!("`{name}` in the URL of PostgreSQL must be {what}"));
        match name {
            "schema" => {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                let first = value.chars().next().is_some_and(|c| !c.is_ascii_digit());
                if !first
                    || value.len() > 48
                    || !value.chars().all(fits)
                    || value.starts_with("pg_")
                {
                    return Err(bad(
                        "1 to 48 lower-case letters, digits and `_`, such as `omniq`, not beginning with a digit or `pg_`",
                    ));
                }
                self.schema = value.to_owned();
            }
            "pool" => {
                let count = value.parse().ok().filter(|count| (2..=200).contains(count));
                self.connections =
                    count.ok_or_else(|| bad("a number of connections from 2 to 200"))?;
            }
            "pgbouncer" => self.pooled = value.parse().map_err(|_| bad("`true` or `false`"))?,
            "timeout" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
                self.patience = Duration::from_secs(
                    seconds.ok_or_else(|| bad("a number of seconds from 1 to 600"))?,
                );
            }
            "durability" => {
                self.durability = match value {
                    "disk" => Durability::Disk,
                    "os" => Durability::Os,
                    "none" => Durability::None,
                    _ => return Err(bad("`disk`, `os` or `none`")),
                }
            }
            "listen" if value == "off" => self.listen = Listen::Off,
            "listen" => {
                let url =
                    decoded(value).ok_or_else(|| bad("`off`, or a URL with `%26` for `&`"))?;
                self.listen =
                    Listen::At(Box::new(connect_options(&url)?.application_name("omniq")));
            }
            _ => {
                return Err(Error::Config(format!(
                    "the URL of PostgreSQL has a setting that is not known; there are {OURS}, and the usual ones such as `sslmode`"
                )));
            }
        }
        Ok(())
    }

    /// What is shown of it: no password.
    pub(super) fn place(&self) -> String {
        let database = self.connect.get_database().unwrap_or_else(|| self.connect.get_username());
        match self.connect.get_socket() {
            Some(socket) => {
                format!("the schema `{}` of `{database}` at `{}`", self.schema, socket.display())
            }
            None => {
                let (host, port) = (self.connect.get_host(), self.connect.get_port());
                format!("the schema `{}` of `{database}` at `{host}:{port}`", self.schema)
            }
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("place", &self.place())
            .field("durability", &self.durability)
            .field("connections", &self.connections)
            .field("pooled", &self.pooled)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

fn connect_options(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        let reason = match error {
            sqlx::Error::Configuration(inner) => inner.to_string(),
            _ => "it is no URL".to_owned(),
        };
        Error::Config(format!(
            "the URL of PostgreSQL is not understood: {reason}; it is written `postgres://user:password@host:5432/database`"
        ))
    })?;
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let options = vouched_for(options, query)?;
    // The server has a log of its own for statements.
    Ok(options.disable_statement_logging())
}

/// The client library checks the server's certificate only where `sslmode` says so. Who names an authority wants it checked.
fn vouched_for(options: PgConnectOptions, query: &str) -> Result<PgConnectOptions> {
    let names = ["sslrootcert=", "ssl-root-cert=", "ssl-ca="];
    if !query.split('&').any(|pair| names.iter().any(|name| pair.starts_with(name))) {
        return Ok(options);
    }
    match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => Ok(options),
        // As `libpq` does.
        PgSslMode::Require => Ok(options.ssl_mode(PgSslMode::VerifyCa)),
        _ => Err(Error::Config(
            "the URL of PostgreSQL names who may vouch for the server (`sslrootcert`), which is only asked with `sslmode=verify-full` or `verify-ca`; add that".into(),
        )),
    }
}

/// The text behind `%41` and the like.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_everything_and_no_password_is_shown() {
        let url = "postgres://ada:secret@db:6432/jobs?schema=acme_2&pool=4&pgbouncer=true&timeout=3&durability=os\
                   &listen=postgres://ada:secret@db:5432/jobs%3Fsslmode=disable&sslmode=disable";
        let config = Config::new(url).unwrap();
        assert_eq!(
            (config.schema.as_str(), config.connections, config.pooled),
            ("acme_2", 4, true)
        );
        assert_eq!((config.patience, config.durability), (Duration::from_secs(3), Durability::Os));
        assert!(matches!(&config.listen, Listen::At(options) if options.get_port() == 5432));
        assert!(!format!("{config:?} {}", config.place()).contains("secret"));
        assert_eq!(config.place(), "the schema `acme_2` of `jobs` at `db:6432`");
        let config = Config::of_url(
            "postgres://h/d",
            &Options { durability: Durability::None, ..Options::default() },
        );
        assert_eq!(config.unwrap().durability, Durability::None);
    }

    #[test]
    fn what_is_not_understood_is_named_without_its_password() {
        for (query, part) in [
            ("schema=", "`schema`"),
            ("schema=Acme", "lower-case"),
            ("schema=pg_x", "`pg_`"),
            ("schema=a\"b", "`schema`"),
            ("pool=1", "2 to 200"),
            ("pool=secret", "2 to 200"),
            ("pgbouncer=secret", "`true` or `false`"),
            ("timeout=0", "1 to 600"),
            ("durability=secret", "`disk`, `os` or `none`"),
            ("listen=%zz", "`off`"),
            ("secret=secret", "not known"),
            ("sslmode=secret2", "not understood"),
            ("sslrootcert=ca.pem", "`sslmode=verify-full`"),
            ("sslmode=prefer&sslrootcert=ca.pem", "`sslmode=verify-full`"),
            ("sslmode=require&sslrootcert=%zz", "the name of a file"),
            ("listen=postgres://h/d?ssl-ca=ca.pem", "`sslmode=verify-full`"),
        ] {
            let error =
                Config::new(&format!("postgres://u:secret@h/d?{query}")).unwrap_err().to_string();
            assert!(error.contains(part), "{query}: {error}");
            assert!(!error.contains("secret@"), "{query}: {error}");
        }
        assert!(Config::new("postgres://u:p@h:port/d").is_err());
    }
}
