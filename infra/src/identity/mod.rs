//! Who is asking: bearer tokens of OpenID Connect issuers.

pub mod oidc;
