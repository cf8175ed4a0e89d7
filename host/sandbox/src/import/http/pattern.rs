//! Which hosts a guest may send HTTP requests to: the text of a grant, and whether a request fits it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;

/// A host, or several, that outbound HTTP may reach.
///
/// | text | allows |
/// |---|---|
/// | `example.com` | `http://example.com` on port 80 and `https://example.com` on port 443 |
/// | `example.com:8443` | both schemes, on that port only |
/// | `https://example.com` | that scheme only, on its default port |
/// | `*.example.com` | every name below `example.com`, at any depth, but not `example.com` itself |
/// | `*` | every host with a public address |
/// | `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` | that very address, or this machine |
///
/// Names are compared without regard to case and in their ASCII form (`xn--…`). A name never gives access to an address
/// that is not public, whatever it resolves to; such an address must be granted as an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    scheme: Option<Scheme>,
    host: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    Any,
    Below(String),
    One(Host),
}

/// A host as it stands in a URL: a name in lower case without a dot at its end, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Where a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

/// A text that is no [`HostPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no host to grant: {reason}; write `example.com`, `*.example.com:8443` or `http://127.0.0.1:8080`"
)]
pub struct HostPatternError {
    text: String,
    reason: &'static str,
}

impl Scheme {
    fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| text.eq_ignore_ascii_case(scheme.name()))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Host {
    /// Reads a host that stands alone; an IPv6 address with its brackets.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(address) = text.strip_prefix('[') {
            let address =
                address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let address = address.ok_or("what stands in brackets is no IPv6 address")?;
            // An IPv4 address in IPv6 clothes is that IPv4 address.
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err("its name is empty, or longer than 253 characters");
        }
        if !name.is_ascii() {
            return Err("its name is not in ASCII; write it in its `xn--` form");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !name.bytes().all(plain) || name.split('.').any(str::is_empty) {
            return Err("its name is no host name");
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }

    /// Whether resolvers would read the name as an address, as they do with `127.1`, `0x7f.1` and `2130706433`.
    fn is_disguised_address(&self) -> bool {
        let Self::Name(name) = self else { return false };
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        hex || last.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl Target {
    /// Where the request with this URL goes; `None` if the URL is not one that can be checked.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = Scheme::parse(uri.scheme_str()?)?;
        let authority = uri.authority()?;
        // A name and password in front of the host serve to make it look like another one (RFC 9110 §4.2.4).
        let rest = authority.as_str().strip_prefix(authority.host())?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => scheme.default_port(),
            None => return None,
        };
        Some(Self { scheme, host: Host::parse(authority.host()).ok()?, port })
    }

    /// Whether the host is this machine by its own name.
    pub fn is_localhost(&self) -> bool {
        self.host == Host::Name("localhost".to_owned())
    }
}

impl HostPattern {
    /// Whether a request may go there, as far as its URL can say.
    pub(super) fn allows(&self, target: &Target) -> bool {
        self.allows_port(target)
            && match (&self.host, &target.host) {
                (Hosts::Any, _) => true,
                (Hosts::Below(parent), Host::Name(name)) => name
                    .strip_suffix(parent.as_str())
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                (Hosts::Below(_), Host::Address(_)) => false,
                (Hosts::One(host), other) => host == other,
            }
    }

    /// Whether a request may go to `address` although that is not public, because the pattern names it.
    pub(super) fn names(&self, target: &Target, address: IpAddr) -> bool {
        let Hosts::One(host) = &self.host else { return false };
        let here = target.is_localhost() && *host == target.host && address.is_loopback();
        self.allows_port(target) && (here || *host == Host::Address(address))
    }

    fn allows_port(&self, target: &Target) -> bool {
        let scheme = self.scheme.is_none_or(|scheme| scheme == target.scheme);
        scheme && target.port == self.port.unwrap_or(target.scheme.default_port())
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => {
                (Some(Scheme::parse(scheme).ok_or("its scheme is neither http nor https")?), rest)
            }
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err("a grant covers whole hosts, so it ends after the host and port");
        }
        if rest.contains('@') {
            return Err("it has a user name in it");
        }
        if let Ok(address) = rest.parse::<Ipv6Addr>() {
            let address = IpAddr::V6(address).to_canonical();
            return Ok(Self { scheme, host: Hosts::One(Host::Address(address)), port: None });
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !rest.ends_with(']') => {
                (host, Some(parse_port(port).ok_or("its port is no number from 1 to 65535")?))
            }
            _ => (rest, None),
        };
        let host = match host.strip_prefix('*') {
            None => Hosts::One(Self::host(host)?),
            Some("") => Hosts::Any,
            Some(below) => match below.strip_prefix('.').map(Self::host).transpose()? {
                Some(Host::Name(parent)) => Hosts::Below(parent),
                _ => return Err("a `*` stands alone, or before a dot and a name"),
            },
        };
        Ok(Self { scheme, host, port })
    }

    fn host(text: &str) -> Result<Host, &'static str> {
        if text.contains('*') {
            return Err("a `*` stands alone, or before a dot and a name");
        }
        let host = Host::parse(text)?;
        if host.is_disguised_address() {
            Err("it is a number but no full IPv4 address")
        } else {
            Ok(host)
        }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16` also reads a leading `+`.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.trim())
            .map_err(|reason| HostPatternError { text: text.to_owned(), reason })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.name())?;
        }
        match &self.host {
            Hosts::Any => f.write_str("*")?,
            Hosts::Below(parent) => write!(f, "*.{parent}")?,
            Hosts::One(host) => write!(f, "{host}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// The origin, as the head of a URL: `https://example.com/`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_grant_reads_and_writes_the_same() {
        for (text, written) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("example.com:8443", "example.com:8443"),
            ("HTTPS://example.com/", "https://example.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("*.example.com:81", "*.example.com:81"),
            ("*", "*"),
            ("https://*", "https://*"),
            ("[::1]:8080", "[::1]:8080"),
            ("::1", "[::1]"),
            ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            (" localhost ", "localhost"),
        ] {
            assert_eq!(pattern(text).to_string(), written);
            assert_eq!(pattern(written), pattern(text));
        }
    }

    #[test]
    fn what_is_no_grant_says_why() {
        for (text, reason) in [
            ("", "empty"),
            ("https://", "empty"),
            ("ftp://example.com", "neither http nor https"),
            ("example.com/path", "ends after the host"),
            ("https://example.com?x", "ends after the host"),
            ("user:secret@example.com", "user name"),
            ("example.com:", "its port"),
            ("example.com:0", "its port"),
            ("example.com:+80", "its port"),
            ("example.com:65536", "its port"),
            ("a.*.com", "a `*` stands"),
            ("*example.com", "a `*` stands"),
            ("*.*.com", "a `*` stands"),
            ("*.127.0.0.1", "a `*` stands"),
            ("127.1", "no full IPv4"),
            ("2130706433", "no full IPv4"),
            ("0x7f000001", "no full IPv4"),
            ("bücher.example", "xn--"),
            ("a..b", "no host name"),
            ("exa mple.com", "no host name"),
            ("[::1", "brackets"),
            ("[fe80::1%eth0]", "brackets"),
        ] {
            let error = text.parse::<HostPattern>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_grant_covers_what_it_says_and_no_more() {
        for (grant, allowed, denied) in [
            (
                "example.com",
                &["http://example.com/x", "https://EXAMPLE.com./x?y", "https://example.com:443/"][..],
                &[
                    "http://example.com:443/",
                    "https://example.com:8443/",
                    "https://www.example.com/",
                    "https://example.com.evil.org/",
                    "https://notexample.com/",
                ][..],
            ),
            (
                "example.com:8443",
                &["http://example.com:8443/", "https://example.com:8443/"],
                &["https://example.com/"],
            ),
            (
                "https://example.com",
                &["https://example.com/"],
                &["http://example.com/", "http://example.com:443/"],
            ),
            (
                "*.example.com",
                &["https://a.example.com/", "https://a.b.example.com/"],
                &["https://example.com/", "https://aexample.com/", "https://.example.com/"],
            ),
            (
                "*",
                &["https://anything.org/", "http://93.184.215.14/"],
                &["https://anything.org:22/"],
            ),
            (
                "127.0.0.1:8080",
                &["http://127.0.0.1:8080/", "http://[::ffff:127.0.0.1]:8080/"],
                &["http://127.1:8080/"],
            ),
            (
                "[::1]:8080",
                &["http://[::1]:8080/"],
                &["http://[::2]:8080/", "http://localhost:8080/"],
            ),
        ] {
            let allows = |url: &&str| {
                let uri: Uri = url.parse().expect("a URL");
                Target::of(&uri).is_some_and(|target| pattern(grant).allows(&target))
            };
            assert_eq!(allowed.iter().copied().find(|url| !allows(url)), None, "{grant}");
            assert_eq!(denied.iter().copied().find(allows), None, "{grant}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_checked_has_no_target() {
        for url in [
            "/just/a/path",
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://example.com:0/",
            "https://example.com:70000/",
            "https://example.com:/",
            "https://exa%6dple.com/",
            "ftp://example.com/",
        ] {
            if let Ok(uri) = url.parse::<Uri>() {
                assert_eq!(Target::of(&uri), None, "{url}");
            }
        }
    }

    #[test]
    fn only_a_grant_that_names_an_address_opens_a_private_one() {
        let private: IpAddr = "10.0.0.5".parse().expect("an address");
        let loopback: IpAddr = "127.0.0.1".parse().expect("an address");
        let to = |url: &str| Target::of(&url.parse().expect("a URL")).expect("a target");
        assert!(pattern("10.0.0.5").names(&to("http://10.0.0.5/"), private));
        assert!(
            pattern("10.0.0.5").names(&to("http://db.internal/"), private),
            "named beside the name"
        );
        assert!(!pattern("10.0.0.5").names(&to("http://db.internal:81/"), private), "another port");
        assert!(!pattern("db.internal").names(&to("http://db.internal/"), private));
        assert!(!pattern("*").names(&to("http://10.0.0.5/"), private));
        assert!(pattern("localhost").names(&to("http://localhost/"), loopback));
        assert!(!pattern("localhost").names(&to("http://localhost/"), private));
        assert!(!pattern("localhost").names(&to("http://example.com/"), loopback));
        assert!(!pattern("*").names(&to("http://localhost/"), loopback));
    }
}
