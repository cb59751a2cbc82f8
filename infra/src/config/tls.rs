//! The listeners' certificates.

use super::{Reference, ReferenceError, Tls};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_rustls::TlsAcceptor;

/// How long a changed certificate may go unnoticed.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The protocol spoken inside a listener's TLS, as its ALPN name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Postgres,
    Http,
}

impl Speaks {
    /// The ALPN name: `postgresql` (PostgreSQL protocol, "SSL Session Encryption") or `http/1.1`.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Postgres => b"postgresql",
            Self::Http => b"http/1.1",
        }
    }
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{0} holds no PEM certificate")]
    NoCertificate(Reference),
    #[error("{0} holds no PEM private key")]
    NoKey(Reference),
    #[error("{certificate} and {key} do not belong together")]
    Mismatch { certificate: Reference, key: Reference },
    #[error("{certificate} cannot be used: {source}")]
    Unusable {
        certificate: Reference,
        #[source]
        source: rustls::Error,
    },
}

impl Tls {
    /// Whether certificate and key can be read, used, and belong together. Blocks on the file system.
    pub fn check(&self) -> Result<(), TlsError> {
        Pair::read(self)?.certify(self).map(drop)
    }

    /// Makes the acceptor of a listener: TLS 1.2 and 1.3.
    ///
    /// A client that offers only other ALPN names is refused; one that offers none is accepted (the caller of a
    /// direct PostgreSQL TLS connection checks that the name was agreed). Certificate and key are read again when
    /// they change, at most every 5 s; a new pair that cannot be used leaves the old one in force, with an error
    /// in the log.
    pub fn acceptor(&self, speaks: Speaks) -> Result<TlsAcceptor, TlsError> {
        let pair = Pair::read(self)?;
        let certified = Arc::new(pair.certify(self)?);
        let resolver = Certificates {
            tls: self.clone(),
            state: Mutex::new(State {
                pair,
                certified,
                looked: Instant::now(),
            }),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Unusable {
                certificate: self.certificate.clone(),
                source,
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![speaks.alpn().to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// The one cryptographic provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Both files as read, to see whether they changed.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl Pair {
    fn read(tls: &Tls) -> Result<Self, ReferenceError> {
        Ok(Self {
            certificate: tls.certificate.read_bytes()?,
            key: zeroize::Zeroizing::new(tls.key.read()?.reveal().as_bytes().to_vec()),
        })
    }

    fn certify(&self, tls: &Tls) -> Result<CertifiedKey, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate(tls.certificate.clone()))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(tls.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::NoKey(tls.key.clone()))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| {
            let certificate = tls.certificate.clone();
            if matches!(source, rustls::Error::InconsistentKeys(_)) {
                TlsError::Mismatch {
                    certificate,
                    key: tls.key.clone(),
                }
            } else {
                TlsError::Unusable { certificate, source }
            }
        })
    }
}

struct State {
    pair: Pair,
    certified: Arc<CertifiedKey>,
    looked: Instant,
}

struct Certificates {
    tls: Tls,
    state: Mutex<State>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_AGAIN_AFTER {
            state.looked = Instant::now();
            self.reload(&mut state);
        }
        Some(Arc::clone(&state.certified))
    }
}

impl Certificates {
    fn reload(&self, state: &mut State) {
        let renewed = Pair::read(&self.tls).map_err(TlsError::from).and_then(|pair| {
            if pair == state.pair {
                return Ok(None);
            }
            let certified = pair.certify(&self.tls)?;
            Ok(Some((pair, certified)))
        });
        match renewed {
            Ok(None) => {}
            Ok(Some((pair, certified))) => {
                tracing::info!(certificate = %self.tls.certificate, "the changed certificate is now in use");
                state.pair = pair;
                state.certified = Arc::new(certified);
            }
            Err(error) => tracing::error!(%error, "the changed certificate cannot be used: the old one stays in force"),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
