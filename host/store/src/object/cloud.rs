//! Buckets: the clients of S3, Azure and Google, from a URL and the environment.
//!
//! `s3://BUCKET/PREFIX?region=…&endpoint=…`: what stands behind the question mark is set over what the environment says
//! (`AWS_*`, `AZURE_*`, `GOOGLE_*`). Credentials may stand in both; nothing here shows them. Any number of stores may
//! share a client.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use super::Root;
use crate::{Error, Result};

/// How long a connection may take to open, and a whole request, where the URL says nothing else.
const TIMEOUTS: [(&str, &str); 2] = [("connect_timeout", "5 s"), ("timeout", "120 s")];
/// The setting that is ours and not the client's: how long the owner of the tasks may be silent.
const LEASE: &str = "lease";
/// What it may be, in seconds: a request may take one, and some signs of life must fit into it.
const LEASES: RangeInclusive<u64> = 2..=3600;
/// Google takes a write of the same name, such as a sign of life, once a second.
const GOOGLE_LEASES: RangeInclusive<u64> = 5..=3600;
const GOOGLE_PACE: Duration = Duration::from_secs(1);

/// A failed request is made again, after pauses that grow and are rolled, where it may be: a call of ours is to fail
/// before whoever waits for it gives up.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(15), ..Default::default() }
}

/// Opens the bucket that the rest of a URL names, behind `s3:`, `az:` or `gs:`.
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) for a URL that names no bucket, has a setting that there is not, or misses one.
pub(super) fn open(scheme: &str, rest: &str) -> Result<Root> {
    // Whoever comes first decides for the process; if that was somebody else, theirs serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Url::parse(scheme, rest)?;
    let (objects, whose) = match scheme {
        "s3" => s3(&url)?,
        "az" => azure(&url)?,
        _ => google(&url)?,
    };
    let place = format!("{scheme}://{}", url.bucket);
    let slash = if url.prefix.is_root() { "" } else { "/" };
    let shown = format!("{place}{slash}{}{whose}", url.prefix);
    let pace = if scheme == "gs" { GOOGLE_PACE } else { Duration::ZERO };
    Ok(Root { lease: url.lease()?, pace, ..Root::of(objects, url.prefix.clone(), shown) })
}

/// A bucket, and what tells it from others of the same name, for people.
type Opened = (Arc<dyn ObjectStore>, String);

fn s3(url: &Url) -> Result<Opened> {
    let mut builder =
        AmazonS3Builder::from_env().with_bucket_name(&url.bucket).with_retry(retries());
    for (key, value) in url.settings::<AmazonS3ConfigKey>()? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    builder = builder.with_allow_http(is_plain(endpoint.as_deref()));
    Ok((Arc::new(builder.build().map_err(|error| url.unusable(&error))?), at(endpoint)))
}

fn azure(url: &Url) -> Result<Opened> {
    let mut builder =
        MicrosoftAzureBuilder::from_env().with_container_name(&url.bucket).with_retry(retries());
    for (key, value) in url.settings::<AzureConfigKey>()? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    builder = builder.with_allow_http(is_plain(endpoint.as_deref()));
    // The same container of two accounts is two places, also behind one endpoint.
    let account = builder.get_config_value(&AzureConfigKey::AccountName);
    let account = account.map(|account| format!(" of the account {account}")).unwrap_or_default();
    let whose = account + &at(endpoint);
    Ok((Arc::new(builder.build().map_err(|error| url.unusable(&error))?), whose))
}

fn google(url: &Url) -> Result<Opened> {
    let mut builder =
        GoogleCloudStorageBuilder::from_env().with_bucket_name(&url.bucket).with_retry(retries());
    for (key, value) in url.settings::<GoogleConfigKey>()? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    Ok((Arc::new(builder.build().map_err(|error| url.unusable(&error))?), at(endpoint)))
}

/// Whether somebody asked for an endpoint without TLS, by writing so.
fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

/// Where that endpoint is, if there is one, without the user and password it may hold.
fn at(endpoint: Option<String>) -> String {
    let Some(endpoint) = endpoint else { return String::new() };
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", &endpoint));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    format!(" at {scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
}

/// What a URL says, apart from its scheme.
struct Url {
    scheme: String,
    bucket: String,
    prefix: Path,
    settings: Vec<(String, String)>,
}

/// Without the settings, which may be secret.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Url").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Url {
    fn parse(scheme: &str, rest: &str) -> Result<Self> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_prefix("//").unwrap_or(place);
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let bad = |reason: String| Error::Config(reason);
        if bucket.is_empty() || bucket.contains('@') {
            return Err(bad(format!(
                "`{scheme}:` needs the name of a bucket, such as `{scheme}://bucket/folder`; credentials stand behind a `?`, or in the environment"
            )));
        }
        let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| {
            bad(format!("the folder in `{scheme}://{bucket}/…` cannot be used: {error}"))
        })?;
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((unescape(key)?, unescape(value)?))
        };
        let pairs = query.split('&').filter(|text| !text.is_empty()).map(pair);
        let settings = pairs.collect::<Option<_>>().ok_or_else(|| {
            bad(format!(
                "the settings behind `?` of `{scheme}://{bucket}` are not `NAME=VALUE` with `&` between them, escaped as a URL's must be; write `%` as `%25`"
            ))
        })?;
        Ok(Self { scheme: scheme.to_owned(), bucket: bucket.to_owned(), prefix, settings })
    }

    /// The settings by the names the client has for them.
    fn settings<K: FromStr>(&self) -> Result<Vec<(K, String)>> {
        let unknown = |key: &str| {
            let there = match self.scheme.as_str() {
                "s3" => {
                    "`region`, `endpoint`, `access_key_id`, `secret_access_key`, `session_token` and `virtual_hosted_style_request`"
                }
                "az" => "`account_name`, `access_key`, `endpoint` and `sas_token`",
                _ => "`service_account_path`, `service_account_key` and `base_url`",
            };
            let (scheme, bucket) = (&self.scheme, &self.bucket);
            Error::Config(format!(
                "`{key}` is no setting of `{scheme}://{bucket}`; there are {there}, `lease`, and those of HTTP such as `proxy_url` and `timeout`"
            ))
        };
        let defaults = TIMEOUTS.iter().map(|(key, value)| (*key, *value));
        let given = self.settings.iter().filter(|(key, _)| key != LEASE);
        let given = given.map(|(key, value)| (key.as_str(), value.as_str()));
        let parsed = |(key, value): (&str, &str)| {
            let known = key.parse().map_err(|_| unknown(key))?;
            Ok((known, value.to_owned()))
        };
        defaults.chain(given).map(parsed).collect()
    }

    /// How long the owner of the tasks may be silent, if the URL says so.
    fn lease(&self) -> Result<Option<Duration>> {
        let Some((_, text)) = self.settings.iter().find(|(key, _)| key == LEASE) else {
            return Ok(None);
        };
        let allowed = if self.scheme == "gs" { GOOGLE_LEASES } else { LEASES };
        match text.parse() {
            Ok(seconds) if allowed.contains(&seconds) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(Error::Config(format!(
                "`lease={text}` of `{}://{}` must be a number of seconds from {} to {}, such as `lease=15`",
                self.scheme,
                self.bucket,
                allowed.start(),
                allowed.end()
            ))),
        }
    }

    /// What a client finds wrong with its settings; it names none of their values but that of an endpoint.
    fn unusable(&self, error: &object_store::Error) -> Error {
        Error::Config(format!("`{}://{}` cannot be used: {error}", self.scheme, self.bucket))
    }
}

/// A text of a URL's query; `None` where a `%` is not followed by two digits, or what they give is no text.
fn unescape(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_a_bucket_and_shows_no_secret() {
        for (url, shown) in [
            (
                "s3://b/a/c?region=eu&access_key_id=hunter2&secret_access_key=hunter%32",
                "s3://b/a/c",
            ),
            (
                "s3://b?endpoint=http://hunter2:hunter2@127.0.0.1:9/x",
                "s3://b at http://127.0.0.1:9",
            ),
            ("s3:b/", "s3://b"),
            ("az://c/x?account_name=me&access_key=aHVudGVyMg==", "az://c/x of the account me"),
            (
                "az://c?account_name=you&access_key=aHVudGVyMg==&endpoint=http://127.0.0.1:9/you",
                "az://c of the account you at http://127.0.0.1:9",
            ),
            ("gs://b/x?skip_signature=true", "gs://b/x"),
        ] {
            let (scheme, rest) = url.split_once(':').unwrap();
            let root = open(scheme, rest).unwrap();
            assert_eq!(root.shown, shown, "{url}");
            assert!(!format!("{root:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_secrets() {
        for (url, part) in [
            ("s3:", "needs the name of a bucket"),
            ("s3://key:hunter2@bucket", "credentials stand behind a `?`"),
            ("s3://b/../x", "cannot be used"),
            ("s3://b?regoin=hunter2", "`regoin` is no setting of `s3://b`; there are `region`"),
            ("s3://b?region=%zz", "write `%` as `%25`"),
            ("s3://b?hunter2", "are not `NAME=VALUE`"),
            ("s3://b?lease=1", "a number of seconds from 2 to 3600"),
            ("gs://b?lease=soon", "such as `lease=15`"),
            ("gs://b?lease=4", "a number of seconds from 5 to 3600"),
            ("az://c?access_key=hunter2", "Account must be specified"),
            ("gs://b?service_account_path=/nowhere", "cannot be used"),
        ] {
            let (scheme, rest) = url.split_once(':').unwrap();
            let message = open(scheme, rest).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("hunter2"), "{url}: {message}");
        }
    }

    #[test]
    fn the_lease_of_an_owner_stands_in_the_url() {
        for (url, lease) in
            [("s3://b?lease=3&region=eu", Some(Duration::from_secs(3))), ("s3://b?region=eu", None)]
        {
            let (scheme, rest) = url.split_once(':').unwrap();
            assert_eq!(open(scheme, rest).unwrap().lease, lease, "{url}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        for (text, plain) in [
            ("a+b%2Fc", Some("a+b/c")),
            ("%E2%98%A0", Some("☠")),
            ("%", None),
            ("%2", None),
            ("%ff", None),
            ("", Some("")),
        ] {
            assert_eq!(unescape(text).as_deref(), plain, "{text}");
        }
    }
}
