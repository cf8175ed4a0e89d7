//! How a NATS server is reached, and where in it a store is.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::values::GRACE;
use crate::tls::{TlsFiles, Words};
use crate::{Clock, Durability, Error, Options, Result};

/// What a URL says about TLS.
pub(super) const TLS: Words = Words {
    files: ["tls_ca", "tls_cert", "tls_key"],
    plain: "write `nats://` without `tls_ca` if it has none",
};

/// How a store in NATS is opened.
#[derive(Clone)]
pub struct Config {
    /// Servers of one cluster, as `host:port`; any of them will do.
    pub servers: Vec<String>,
    /// Who we are; the password may be empty where a token is meant.
    pub login: Option<Login>,
    /// A file of credentials (JWT and key), as `nsc` makes them.
    pub credentials: Option<PathBuf>,
    /// Whether the connection has to be encrypted. Without it it is where the server says so.
    pub tls: bool,
    /// Whether the connection is encrypted before the server says anything: for one with `handshake_first`.
    pub tls_first: bool,
    /// Who may vouch for the server, if not those the system trusts, and who we are.
    pub tls_files: TlsFiles,
    /// The JetStream domain, where there are several.
    pub domain: Option<String>,
    /// The store's name: several stores in one account do not see each other. Default `omniq`.
    pub name: String,
    /// On how many servers of a cluster each message is kept; 1, 3 or 5. Only who creates the streams decides. Default 1.
    pub replicas: usize,
    /// What an answer has survived, as far as this side is told: `Disk` only with the word of the URL that the server
    /// syncs always.
    pub durability: Durability,
    /// What decides every deadline: `None` is the server's clock, which is what everybody should use but tests.
    pub clock: Option<Arc<dyn Clock>>,
    /// How long a call waits for the server. Default 10 s.
    pub patience: Duration,
    /// Arguments and values of results above so many bytes are kept beside the log, not in memory. Default 4 KiB.
    pub inline: usize,
    /// An image of everything is taken at least after so many bytes of log. Default 8 MiB; a large image is taken after
    /// half its own size.
    pub image_every: u64,
    /// How old a value must be before it may be taken for left over. Default 5 minutes; less is for tests alone.
    pub grace: Duration,
}

/// A user and a password.
#[derive(Clone)]
pub struct Login {
    user: String,
    password: String,
}

impl Login {
    /// A user and a password, or a token and nothing.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    pub(super) fn parts(&self) -> (String, String) {
        (self.user.clone(), self.password.clone())
    }
}

impl Config {
    /// The store named `name` at `servers`, everything else by default.
    pub fn new(servers: Vec<String>, name: impl Into<String>) -> Self {
        Self {
            servers,
            login: None,
            credentials: None,
            tls: false,
            tls_first: false,
            tls_files: TlsFiles::default(),
            domain: None,
            name: name.into(),
            replicas: 1,
            durability: Durability::Os,
            clock: None,
            patience: Duration::from_secs(10),
            inline: 4 << 10,
            image_every: 8 << 20,
            grace: GRACE,
        }
    }

    /// The store that a URL names: `nats://user:password@host:port,host:port/NAME?replicas=3`, `nats+tls://…` encrypted.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when it is none; the message does not repeat the password.
    pub fn of_url(url: &str, options: &Options) -> Result<Self> {
        let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold `/` where somebody forgot to write it as `%2F`: the last `@` is the one that counts.
        let (login, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
        let servers: Vec<String> =
            hosts.split(',').filter(|host| !host.is_empty()).map(str::to_owned).collect();
        if servers.is_empty() {
            return Err(wrong("it names no server, such as `nats://localhost:4222/omniq`"));
        }
        let name = if name.is_empty() { "omniq" } else { name };
        check_name(name)?;
        let mut config = Self::new(servers, name);
        config.patience = options.timeout;
        config.login = login.map(login_of).transpose()?;
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            config.set(key, &decoded(value)?)?;
        }
        let asks_for_tls = config.tls_first || config.tls_files != TlsFiles::default();
        config.tls = scheme == "nats+tls" || asks_for_tls;
        config.check()?;
        Ok(config)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match (key, value) {
            ("replicas", "1" | "3" | "5") => {
                self.replicas = usize::from(value.as_bytes()[0] - b'0')
            }
            ("replicas", _) => return Err(wrong("`replicas` is 1, 3 or 5")),
            ("sync", "always") => self.durability = Durability::Disk,
            ("sync", _) => return Err(wrong("`sync` is `always`, or left out")),
            ("credentials", path) => self.credentials = Some(path.into()),
            ("tls_first", "true") => self.tls_first = true,
            ("tls_first", _) => return Err(wrong("`tls_first` is `true`, or left out")),
            ("tls_ca", path) => self.tls_files.authority = Some(path.into()),
            ("tls_cert", path) => self.tls_files.certificate = Some(path.into()),
            ("tls_key", path) => self.tls_files.key = Some(path.into()),
            ("domain", domain) => {
                check_name(domain)?;
                self.domain = Some(domain.to_owned());
            }
            ("durability", "os") => self.durability = Durability::Os,
            ("durability", "disk") if self.durability == Durability::Disk => {}
            ("durability", "disk") => {
                return Err(wrong(
                    "a server of NATS answers before its disk has a message, unless it is told `sync_interval: always`; \
                     say `sync=always` in the URL, before `durability=disk`, if yours is",
                ));
            }
            ("durability", _) => return Err(wrong("`durability` is `os` or `disk`")),
            _ => {
                return Err(wrong(&format!(
                    "it has no setting `{key}`; there are `replicas`, `sync`, `durability`, `credentials`, `domain`, `tls_ca`, `tls_cert`, `tls_key` and `tls_first`"
                )));
            }
        }
        Ok(())
    }

    /// Checks what no server needs to be asked for.
    pub(super) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.servers.is_empty() {
            return Err(wrong("it names no server"));
        }
        Ok(())
    }

    /// What people call the place: nothing secret is in it.
    pub fn shown(&self) -> String {
        let scheme = if self.tls { "nats+tls" } else { "nats" };
        format!("{scheme}://{}/{}", self.servers.join(","), self.name)
    }

    /// What tells one store from another within a process: who asks for an encrypted connection gets no other.
    pub(super) fn identity(&self) -> String {
        format!("{} {:?}", self.shown(), self.tls_files)
    }

    /// The names of streams and buckets.
    pub(super) fn log_stream(&self) -> String {
        format!("OMNIQ_{}", self.name)
    }

    /// The subject of all commands.
    pub(super) fn log_subject(&self) -> String {
        format!("omniq.{}.log", self.name)
    }

    /// The bucket of values, and the one of what is too large for it.
    pub(super) fn bucket(&self) -> String {
        format!("omniq_{}", self.name)
    }
}

fn wrong(reason: &str) -> Error {
    Error::Config(format!("the URL of NATS cannot be used: {reason}"))
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        return Ok(());
    }
    Err(wrong("the name of a store or domain has 1 to 64 letters, digits, `_` or `-`"))
}

fn login_of(text: &str) -> Result<Login> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Login { user: decoded(user)?, password: decoded(password)? })
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or(0)).to_digit(16);
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(wrong("a `%` in it is not followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong("what stands behind a `%` in it is not UTF-8"))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither user nor password.
        f.debug_struct("Config").field("place", &self.shown()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Config> {
        Config::of_url(url, &Options::default())
    }

    #[test]
    fn a_url_says_where_who_and_how() {
        let config = of("nats://me:pa%2Fss%40@a:1,b:2/jobs?replicas=3&domain=hub").unwrap();
        assert_eq!(config.servers, ["a:1", "b:2"]);
        assert_eq!(config.login.as_ref().unwrap().parts(), ("me".into(), "pa/ss@".into()));
        assert_eq!((config.name.as_str(), config.replicas, config.tls), ("jobs", 3, false));
        assert_eq!(config.domain.as_deref(), Some("hub"));
        assert_eq!(config.shown(), "nats://a:1,b:2/jobs");
        assert!(!format!("{config:?}").contains("pa/ss"));
        let config = of("nats+tls://host").unwrap();
        assert_eq!((config.name.as_str(), config.tls), ("omniq", true));
        assert_eq!(config.durability, Durability::Os, "what every server gives");
        let config = of("nats://h?tls_ca=/my%20ca.pem&tls_cert=c.pem&tls_key=k.pem").unwrap();
        let [ca, certificate, key] = ["/my ca.pem", "c.pem", "k.pem"].map(|path| Some(path.into()));
        assert_eq!(config.tls_files, TlsFiles { authority: ca, certificate, key });
        assert_eq!((config.tls, config.shown().as_str()), (true, "nats+tls://h/omniq"));
        let config = of("nats://h?tls_first=true").unwrap();
        assert_eq!((config.tls, config.tls_first), (true, true));
        assert_eq!(
            of("nats://h/?sync=always&durability=disk").unwrap().durability,
            Durability::Disk
        );
    }

    #[test]
    fn what_cannot_be_used_says_why_without_the_password() {
        for (url, part) in [
            ("nats:", "names no server"),
            ("nats://me:secret@", "names no server"),
            ("nats://me:secret@h/a.b", "1 to 64 letters"),
            ("nats://me:secret@h/a?replicas=2", "1, 3 or 5"),
            ("nats://me:secret@h/a?durability=disk", "sync_interval: always"),
            ("nats://me:secret@h/a?sync=often", "`sync` is `always`"),
            ("nats://me:secret@h/a?tls_first=no", "`tls_first` is `true`"),
            ("nats://me:secret@h/a?colour=red", "no setting `colour`"),
            ("nats://me:secret%zz@h", "two hexadecimal digits"),
            ("nats://me:secret%ff@h", "not UTF-8"),
        ] {
            let message = of(url).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("secret"), "{url}: {message}");
        }
    }
}
