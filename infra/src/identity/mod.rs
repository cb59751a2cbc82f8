//! Who is asking: bearer tokens of OpenID Connect issuers.

mod claims;
mod keys;
pub mod oidc;
mod token;
