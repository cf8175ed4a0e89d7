//! Who is trusted to vouch for a server: Mozilla's list of authorities, and those in the file `SSL_CERT_FILE` names.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The settings every guest's connections share, made when the first one is needed.
///
/// # Errors
/// Says why `SSL_CERT_FILE` cannot be used: to leave it out in silence would trust others than the operator meant.
pub(super) fn shared() -> Result<Arc<ClientConfig>, String> {
    static SHARED: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
        let extra = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
        trusting(extra.as_deref().map(Path::new))
    });
    SHARED.clone()
}

/// Settings that trust the authorities in `extra`, a PEM file, besides the usual ones.
pub(super) fn trusting(extra: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    if let Some(path) = extra {
        let unusable = |error: &dyn std::fmt::Display| {
            format!(
                "the certificates in `{}` (SSL_CERT_FILE) cannot be used: {error}",
                path.display()
            )
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
    }
    // Named, since the process may link more than one provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
