//! The issuers of the configuration, as the verifier of tokens wants them.

use super::{Config, Issuer, ReferenceError};
use crate::identity::oidc;

/// Why no verifier can be made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("the CA of issuer {url}: {source}")]
    Ca {
        url: String,
        #[source]
        source: ReferenceError,
    },
    #[error(transparent)]
    Issuer(#[from] oidc::IssuerError),
}

impl Config {
    /// Makes the verifier of tokens of all issuers. Blocks on the file system; asks no issuer yet.
    pub fn verifier(&self) -> Result<oidc::Verifier, TrustError> {
        let issuers = self.issuers.iter().map(Issuer::trusted).collect::<Result<_, _>>()?;
        Ok(oidc::Verifier::new(issuers)?)
    }
}

impl Issuer {
    /// Whether its CA can be read and used. Blocks on the file system.
    pub fn check(&self) -> Result<(), TrustError> {
        oidc::Verifier::new(vec![self.trusted()?])?;
        Ok(())
    }

    fn trusted(&self) -> Result<oidc::Issuer, TrustError> {
        let ca = self.ca.as_ref().map(super::Reference::read_bytes).transpose();
        Ok(oidc::Issuer {
            url: self.url.clone(),
            audiences: self.audiences.clone(),
            authorized_parties: self.authorized_parties.clone(),
            machines_only: self.machines_only,
            groups_claim: self.groups_claim.clone(),
            name_claims: self.name_claims.clone(),
            clock_skew_seconds: self.clock_skew_seconds,
            algorithms: self.algorithms.clone(),
            ca_pem: ca.map_err(|source| TrustError::Ca {
                url: self.url.to_string(),
                source,
            })?,
        })
    }
}
