//! Who is asking: bearer tokens of OpenID Connect issuers.

mod claims;
mod keys;
pub mod oidc;
pub mod sign_in;
mod token;
