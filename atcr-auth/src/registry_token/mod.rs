//! Registry tokens: the short-lived ES256 JWTs that a client gets from the token endpoint and shows at `/v2/`
//! (distribution documentation, Token Authentication).

mod authorizer;
mod claims;
mod issuer;
mod keys;
mod verifier;

use std::time::Duration;

use atcr_core::authorizer::Action;
use atcr_core::oci::RepositoryName;

pub use authorizer::TokenAuthorizer;
pub use issuer::{IssueError, IssuedToken, TokenIssuer};
pub use keys::{TokenKeyError, TokenKeys};
pub use verifier::{TokenError, TokenVerifier, VerifiedToken};

/// What tokens say about where they come from and how long they live.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TokenConfig {
    /// `iss`: who makes them.
    pub issuer: String,
    /// `aud`: the registry they are for; the `service` of the challenge.
    pub service: String,
    /// How long a registry token lives; never less than 60 s, which is what clients assume.
    pub lifetime: Duration,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// How far the clocks of several replicas may differ.
    pub leeway: Duration,
}

impl TokenConfig {
    /// Tokens of one registry for itself: 300 s, refresh tokens 30 days, 10 s of leeway.
    pub fn new(service: impl Into<String>) -> Self {
        let service = service.into();
        Self {
            issuer: service.clone(),
            service,
            lifetime: Duration::from_secs(300),
            refresh_lifetime: Duration::from_secs(30 * 24 * 3600),
            leeway: Duration::from_secs(10),
        }
    }
}

/// What a token allows in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAccess {
    /// The repository.
    pub name: RepositoryName,
    /// The actions.
    pub actions: Vec<Action>,
}
