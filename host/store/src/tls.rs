//! Encrypted connections to servers: the files that a URL names, and what the errors of TLS mean for people.
//!
//! The clients of the servers do the rest; all of them go by `rustls`.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription as Alert, CertificateError, ClientConfig, RootCertStore};

use crate::{Error, Result};

/// Files that a connection is encrypted with, all in PEM. They are read again for each connection, so that certificates may be
/// renewed while it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities that may vouch for a server. `None`: those that everybody trusts.
    pub authority: Option<PathBuf>,
    /// Our own certificate, with those between it and an authority that the server trusts.
    pub certificate: Option<PathBuf>,
    /// The key of our own certificate.
    pub key: Option<PathBuf>,
}

/// What is in [`TlsFiles`].
#[cfg_attr(
    not(any(feature = "redis", test)),
    expect(
        dead_code,
        reason = "other clients read the files themselves, once they are known to be right"
    )
)]
pub(crate) struct Contents {
    pub authority: Option<Vec<u8>>,
    /// Certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a backend's URL says about TLS, for what is told to do next.
#[derive(Debug)]
pub(crate) struct Words {
    /// The settings that name authority, certificate and key.
    pub files: [&'static str; 3],
    /// How to ask for a connection that is not encrypted.
    pub plain: &'static str,
}

impl TlsFiles {
    /// Reads them, as far as there are any.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for one that cannot be read or holds something else.
    pub(crate) fn read(&self, words: &Words) -> Result<Contents> {
        let [authority, certificate, key] = words.files;
        let identity = match (&self.certificate, &self.key) {
            (Some(chain), Some(secret)) => {
                let chain = read(certificate, chain, CERTIFICATES, has_certificates)?;
                let secret = read(key, secret, "the key of our certificate", has_key)?;
                fit(&chain, &secret).map_err(|reason| {
                    Error::Config(format!(
                        "the key that `{key}` names does not go with the certificate of `{certificate}`: {reason}"
                    ))
                })?;
                Some((chain, secret))
            }
            (None, None) => None,
            _ => {
                return Err(Error::Config(format!(
                    "`{certificate}` and `{key}` belong together, and the URL has only one of them"
                )));
            }
        };
        let trusted = self.authority.as_ref();
        let trusted = trusted.map(|path| read(authority, path, CERTIFICATES, has_certificates));
        Ok(Contents { authority: trusted.transpose()?, identity })
    }
}

/// Has clients that take whatever the process has encrypt by what everything else here does.
#[cfg(any(feature = "redis", feature = "nats"))]
pub(crate) fn provide() {
    // Where the process has something already, that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

const CERTIFICATES: &str = "certificates";

/// Reads a file in PEM; `holds` says what is wrong with what is in it.
fn read(
    name: &str,
    path: &Path,
    what: &str,
    holds: fn(&[u8]) -> std::result::Result<(), String>,
) -> Result<Vec<u8>> {
    let wrong = |reason: String| {
        Error::Config(format!(
            "`{name}={}` must name a file with {what} in PEM: {reason}",
            path.display()
        ))
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    holds(&bytes).map_err(wrong)?;
    Ok(bytes)
}

fn has_certificates(bytes: &[u8]) -> std::result::Result<(), String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    if store.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(()) }
}

fn has_key(bytes: &[u8]) -> std::result::Result<(), String> {
    PrivateKeyDer::from_pem_slice(bytes).map(drop).map_err(|_| "there is no key in it".to_owned())
}

/// Whether the key is that of the first certificate.
fn fit(chain: &[u8], secret: &[u8]) -> std::result::Result<(), String> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<std::result::Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| error.to_string())?;
    let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|config| config.with_root_certificates(RootCertStore::empty()))
        .and_then(|config| config.with_client_auth_cert(chain, secret))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Why there is no encrypted connection, and the next step, where that is what an error is about.
pub(crate) fn explain(error: &(dyn StdError + 'static), words: &Words) -> Option<String> {
    of_tls(error).and_then(|error| explained(error, words))
}

/// The error of TLS behind an error.
fn of_tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // The source of an error of I/O, or of a shared one, is what lies behind the error in it, not that error.
    let of_io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let shared = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>();
    let inner = of_io.or_else(|| shared.map(|shared| &**shared));
    let inner = inner.map(|inner| inner as &(dyn StdError + 'static));
    inner.or_else(|| error.source()).and_then(of_tls)
}

fn explained(error: &rustls::Error, words: &Words) -> Option<String> {
    use CertificateError as Certificate;
    let [authority, certificate, key] = words.files;
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            Certificate::UnknownIssuer => format!(
                "nobody who is trusted here vouches for the server's certificate; name a file with the certificate of its authority by `{authority}=FILE`"
            ),
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => format!(
                "the server has a certificate for another name ({reason}); write the host as one that it is for"
            ),
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. } => format!(
                "the server has a certificate that does not hold now ({reason}); renew it, or set the clock of this machine"
            ),
            _ => format!("the server's certificate is refused: {reason}; replace it"),
        },
        rustls::Error::InvalidMessage(reason) => format!(
            "the server does not speak TLS there ({reason:?}); name its port for TLS, or {}",
            words.plain
        ),
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => format!(
            "the server wants a certificate of ours that it can trust ({error}); name files with it and its key by `{certificate}=FILE&{key}=FILE`"
        ),
        rustls::Error::AlertReceived(_) => format!(
            "the server refuses to speak TLS with us ({error}); if it wants a certificate of ours, name it by `{certificate}=FILE&{key}=FILE`"
        ),
        rustls::Error::PeerIncompatible(reason) => format!(
            "the server speaks no TLS that would do ({reason:?}); let it speak TLS 1.2 or newer"
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words { files: ["ca", "cert", "key"], plain: "write `x://`" };

    #[test]
    fn the_error_of_tls_is_found_wherever_it_lies() {
        let lies = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, part) in [
            (lies(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), "`ca=FILE`"),
            (
                lies(rustls::Error::InvalidCertificate(CertificateError::Expired)),
                "clock of this machine",
            ),
            (
                lies(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)),
                "write `x://`",
            ),
            (
                io::Error::other(lies(rustls::Error::AlertReceived(Alert::CertificateRequired))),
                "`cert=FILE&key=FILE`",
            ),
        ] {
            let said = explain(&error, &WORDS).unwrap();
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(explain(&io::Error::other("refused"), &WORDS), None);
    }

    #[test]
    fn a_file_that_will_not_do_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(folder.path().join(name));
        let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
        std::fs::write(folder.path().join("good"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("bad"), "no such thing").unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("other"), other.serialize_pem()).unwrap();
        let files = |ca, certificate, key| TlsFiles { authority: ca, certificate, key };
        for (files, part) in [
            (
                files(at("gone"), None, None),
                "/gone` must name a file with certificates in PEM: No such file",
            ),
            (files(at("bad"), None, None), "`ca="),
            (files(at("key"), None, None), "there is no certificate in it"),
            (files(Some(folder.path().to_owned()), None, None), "Is a directory"),
            (files(None, at("good"), None), "`cert` and `key` belong together"),
            (files(None, at("good"), at("good")), "there is no key in it"),
            (files(None, at("bad"), at("key")), "`cert="),
            (files(None, at("good"), at("other")), "does not go with"),
        ] {
            let error = files.read(&WORDS).err().unwrap();
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            assert!(error.to_string().contains(part), "{error}");
        }
        let read = files(at("good"), at("good"), at("key")).read(&WORDS).unwrap();
        assert!(read.authority.is_some() && read.identity.is_some());
    }
}
