//! How a store on a server is opened, and what a URL says about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::tls::{TlsFiles, Words};
use crate::{Clock, Durability, Error, Options, Result};

/// What a URL says about TLS.
pub(super) const TLS: Words = Words {
    files: ["tls_ca", "tls_cert", "tls_key"],
    plain: "write `redis://` or `valkey://` if it has none",
};

/// How a store on a server is opened. Its debug form has no passwords.
#[derive(Clone)]
pub struct Config {
    /// Where: one server, or some nodes of a cluster.
    servers: Vec<ConnectionInfo>,
    /// The same for people.
    place: String,
    /// The store's name on the server, and its hash tag. Default `omniq`.
    pub name: String,
    /// What an answer has survived; a server that is set up to promise less is refused. Default: a loss of power.
    pub durability: Durability,
    /// What decides every deadline. Default: `None`, the server's clock.
    pub clock: Option<Arc<dyn Clock>>,
    /// How long a call may take, connecting included. Default 10 s.
    pub timeout: Duration,
    /// Who may vouch for the server, if not those on Mozilla's list, and who we are. Only where the URL asks for TLS.
    pub tls: TlsFiles,
}

/// What follows `?` in a URL.
const SETTINGS: &str = "`name`, `durability`, `timeout`, `tls_ca`, `tls_cert` and `tls_key`";

impl Config {
    /// The servers that a URL names, everything else by default: `redis://`, `rediss://`, `valkey://` or `valkeys://`, then
    /// `USER:PASSWORD@HOST:PORT/DATABASE`. Several hosts, with commas between them, are nodes of one cluster. After `?`:
    /// `name`, `durability` (`disk`, `os`, `none`), `timeout` in seconds, and files in PEM:
    /// `tls_ca` (who may vouch for the server), `tls_cert` and `tls_key` (who we are).
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) names what was not understood, never a password.
    pub fn new(url: &str) -> Result<Self> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong("it does not begin with `redis://`"))?;
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, address) =
            before.rsplit_once('@').map_or(("", before), |(user, rest)| (user, rest));
        let (hosts, database) = address.split_once('/').unwrap_or((address, ""));
        let at = if user.is_empty() { "" } else { "@" };
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            let one = format!("{scheme}://{user}{at}{host}/{database}");
            let info = one.as_str().into_connection_info();
            servers.push(
                info.map_err(|_| wrong(&format!("`{host}/{database}` is no host and database")))?,
            );
        }
        let mut config = Self {
            place: format!("{scheme}://{address}"),
            servers,
            name: "omniq".to_owned(),
            durability: Durability::default(),
            clock: None,
            timeout: Duration::from_secs(10),
            tls: TlsFiles::default(),
        };
        for setting in query.split('&').filter(|setting| !setting.is_empty()) {
            config.set(setting)?;
        }
        if config.tls != TlsFiles::default() && !config.is_encrypted() {
            return Err(wrong(
                "`tls_ca`, `tls_cert` and `tls_key` are for `rediss://` and `valkeys://`",
            ));
        }
        Ok(config)
    }

    /// The servers that a URL names, as it or else `options` say.
    pub(crate) fn of_url(url: &str, options: &Options) -> Result<Self> {
        let mut config = Self::new(url)?;
        if !url.contains("durability=") {
            config.durability = options.durability;
        }
        if !url.contains("timeout=") {
            config.timeout = options.timeout;
        }
        Ok(config)
    }

    fn set(&mut self, setting: &str) -> Result<()> {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        match (name, value) {
            ("name", value) => self.name = store_name(value)?,
            ("durability", "disk") => self.durability = Durability::Disk,
            ("durability", "os") => self.durability = Durability::Os,
            ("durability", "none") => self.durability = Durability::None,
            ("timeout", value) => self.timeout = seconds(value)?,
            ("tls_ca", value) => self.tls.authority = Some(value.into()),
            ("tls_cert", value) => self.tls.certificate = Some(value.into()),
            ("tls_key", value) => self.tls.key = Some(value.into()),
            ("durability", value) => {
                return Err(wrong(&format!(
                    "`durability` is `disk`, `os` or `none`, not `{value}`"
                )));
            }
            _ => return Err(wrong(&format!("there is no setting `{name}`; there are {SETTINGS}"))),
        }
        Ok(())
    }

    pub(super) fn servers(&self) -> &[ConnectionInfo] {
        &self.servers
    }

    /// Whether connections are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        let safe = |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        self.servers.iter().all(safe)
    }

    /// Where the store is, for people: without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What tells one store from another within a process.
    pub(super) fn identity(&self) -> String {
        let users: Vec<_> =
            self.servers.iter().map(|server| server.redis_settings().username()).collect();
        format!("{} {users:?} {} {:?} {:?}", self.place, self.name, self.durability, self.tls)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("place", &self.place)
            .field("name", &self.name)
            .field("durability", &self.durability)
            .field("clock", &self.clock)
            .field("timeout", &self.timeout)
            .field("tls", &self.tls)
            .finish()
    }
}

/// A name that can be a hash tag.
fn store_name(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(wrong("`name` has 1 to 64 letters, digits, `.`, `_` or `-`"))
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds = text.trim_end_matches('s').parse::<f64>().ok().filter(|value| *value >= 0.1);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
        wrong(&format!("`timeout` is a number of seconds from 0.1 on, not `{text}`"))
    })
}

fn wrong(reason: &str) -> Error {
    Error::Config(format!(
        "the URL of the Redis or Valkey server is not right: {reason}; it looks like `redis://HOST:6379/0?name=omniq`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_url_says_where_and_how() {
        for (url, place, servers) in [
            ("redis://localhost", "redis://localhost", 1),
            ("valkey://me:secret@localhost:7000/2", "valkey://localhost:7000/2", 1),
            ("rediss://:secret@a:1,b:2,c:3", "rediss://a:1,b:2,c:3", 3),
            ("redis://[::1]:7/0?name=acme.jobs&durability=os&timeout=2.5", "redis://[::1]:7/0", 1),
        ] {
            let config = Config::new(url).unwrap();
            assert_eq!((config.place(), config.servers().len()), (place, servers), "{url}");
            assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        }
        let config = Config::new("redis://h?name=acme.jobs&durability=os&timeout=2.5").unwrap();
        assert_eq!(config.name, "acme.jobs");
        assert_eq!(config.durability, Durability::Os);
        assert_eq!(config.timeout, Duration::from_millis(2500));
        let config = Config::new("rediss://h?tls_ca=a.pem&tls_cert=c.pem&tls_key=k.pem").unwrap();
        let [ca, certificate, key] = ["a.pem", "c.pem", "k.pem"].map(|path| Some(path.into()));
        assert_eq!(config.tls, TlsFiles { authority: ca, certificate, key });
    }

    #[test]
    fn what_is_wrong_with_a_url_is_named_without_its_password() {
        for (url, part) in [
            ("redis:secret@h", "does not begin"),
            ("redis://:secret@h:port", "`h:port/` is no host"),
            ("redis://:secret@h/x", "`h/x` is no host"),
            ("redis://:secret@h?nmae=x", "no setting `nmae`"),
            ("redis://:secret@h?name=a{b}", "`name` has"),
            ("redis://:secret@h?durability=hope", "not `hope`"),
            ("redis://:secret@h?timeout=0", "not `0`"),
            ("redis://:secret@h?tls_ca=ca.pem", "are for `rediss://`"),
        ] {
            let error = Config::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = error.to_string();
            assert!(message.contains(part), "{url}: {message}");
            assert!(!message.contains("secret"), "{url}: {message}");
        }
    }
}
