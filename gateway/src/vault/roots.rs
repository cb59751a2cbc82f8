//! The certificate authorities that vouch for a target's server.

use countersign_infra::config::{Reference, ReferenceError, Speaks, tls_provider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Why there are no roots to trust.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{0} holds no usable PEM certificate")]
    NoCertificate(Reference),
    #[error("this system has no certificate authorities: install ca-certificates, or name a CA with tls.ca")]
    NoSystemRoots,
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The system's roots, read once by the first target that needs them.
#[derive(Default)]
pub(super) struct System(OnceLock<Arc<ClientConfig>>);

/// The roots of one target: its own CA, else the system's.
pub(super) struct Roots {
    ca: Option<Reference>,
    system: Arc<System>,
    /// The CA as last read and what was made of it: kept while it stays the same, for TLS resumption.
    last: Mutex<Option<(Vec<u8>, Arc<ClientConfig>)>>,
}

impl Roots {
    pub(super) fn new(ca: Option<Reference>, system: Arc<System>) -> Self {
        Self {
            ca,
            system,
            last: Mutex::new(None),
        }
    }

    /// The TLS configuration as the CA file is now.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, RootsError> {
        let Some(ca) = &self.ca else {
            return self.system.client();
        };
        let pem = ca.read_bytes()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = last.as_ref().filter(|(read, _)| *read == pem) {
            return Ok(Arc::clone(client));
        }
        let client = trusting(own(ca, &pem)?)?;
        *last = Some((pem, Arc::clone(&client)));
        Ok(client)
    }
}

impl System {
    fn client(&self) -> Result<Arc<ClientConfig>, RootsError> {
        if let Some(client) = self.0.get() {
            return Ok(Arc::clone(client));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(RootsError::NoSystemRoots);
        }
        let client = trusting(roots)?;
        Ok(Arc::clone(self.0.get_or_init(|| client)))
    }
}

fn own(ca: &Reference, pem: &[u8]) -> Result<RootCertStore, RootsError> {
    let none = || RootsError::NoCertificate(ca.clone());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| none())?).map_err(|_| none())?;
    }
    if roots.is_empty() { Err(none()) } else { Ok(roots) }
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, RootsError> {
    let mut config = ClientConfig::builder_with_provider(tls_provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![Speaks::Postgres.alpn().to_vec()];
    Ok(Arc::new(config))
}
