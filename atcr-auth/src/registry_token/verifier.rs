use std::sync::Arc;
use std::time::{Duration, Instant};

use atcr_core::authorizer::Action;
use atcr_core::oci::RepositoryName;
use atcr_core::{Account, Principal};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};

use super::claims::{ACCESS, Claims, REFRESH};
use super::{RepositoryAccess, TokenConfig, TokenKeys};
use crate::clock::{Clock, until, whole_seconds};
use crate::jwt::MAX_TOKEN;

/// Verified tokens that are remembered; each takes about half a kilobyte.
const REMEMBERED: u64 = 20_000;

/// What a registry token has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// Who holds it.
    pub principal: Principal,
    /// What it allows.
    pub access: Vec<RepositoryAccess>,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
}

impl VerifiedToken {
    /// Whether it allows an action in a repository.
    pub fn allows(&self, repository: &RepositoryName, action: Action) -> bool {
        self.access.iter().any(|access| &access.name == repository && access.actions.contains(&action))
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not a token of this registry.
    #[error("the token cannot be read; sign in again with docker login")]
    Malformed,
    /// A refresh token where a registry token belongs, or the other way round.
    #[error("this kind of token is not accepted here")]
    WrongType,
    /// Signed by a key that is not, or no longer, one of this registry.
    #[error("the token is signed by a key that this registry does not know; sign in again with docker login")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token does not verify")]
    BadSignature,
    /// Made by somebody else.
    #[error("the token was not made by this registry's token service")]
    WrongIssuer,
    /// Made for another service.
    #[error("the token was made for another registry")]
    WrongAudience,
    /// Its time is over.
    #[error("the token expired {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: i64,
    },
    /// Its time has not come.
    #[error("the token is valid in {seconds} s only; compare the clocks of the registry's machines")]
    NotYetValid {
        /// How far off that is.
        seconds: i64,
    },
}

/// Verifies registry tokens and refresh tokens. A registry token that has been verified is remembered by its hash
/// until it expires, so that the next request with it costs a hash and a look-up. Cheap to clone; clones share what
/// they remember.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    keys: Arc<TokenKeys>,
    config: Arc<TokenConfig>,
    validation: Arc<Validation>,
    clock: Clock,
    verified: Cache<[u8; 32], Arc<VerifiedToken>>,
}

/// Forgets a token when it expires.
struct AtExpiry(Clock, Duration);

impl Expiry<[u8; 32], Arc<VerifiedToken>> for AtExpiry {
    fn expire_after_create(&self, _: &[u8; 32], token: &Arc<VerifiedToken>, _: Instant) -> Option<Duration> {
        Some(until(token.expires_at, self.0.unix()).saturating_add(self.1))
    }
}

impl TokenVerifier {
    /// A verifier that takes tokens of all of `keys`.
    pub fn new(keys: Arc<TokenKeys>, config: TokenConfig, clock: Clock) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.service]);
        // The times are compared with the injected clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let verified = Cache::builder()
            .max_capacity(REMEMBERED)
            .expire_after(AtExpiry(clock.clone(), config.leeway))
            .build();
        Self { keys, config: Arc::new(config), validation: Arc::new(validation), clock, verified }
    }

    /// The registry whose tokens are verified.
    pub fn service(&self) -> &str {
        &self.config.service
    }

    /// Verifies a registry token.
    pub async fn verify(&self, token: &str) -> Result<Arc<VerifiedToken>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(verified) = self.verified.get(&hash).await {
            self.check_expiry(verified.expires_at)?;
            return Ok(verified);
        }
        let claims = self.decode(token, ACCESS)?;
        let verified = Arc::new(VerifiedToken {
            principal: claims.principal().ok_or(TokenError::Malformed)?,
            access: claims.access(),
            expires_at: claims.exp,
        });
        self.verified.insert(hash, Arc::clone(&verified)).await;
        Ok(verified)
    }

    /// Verifies a refresh token and gives the account it was made for. Whether that account is still signed in is
    /// for the caller to see.
    pub fn verify_refresh(&self, token: &str) -> Result<Account, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        match self.decode(token, REFRESH)?.principal() {
            Some(Principal::Account(account)) => Ok(account),
            _ => Err(TokenError::Malformed),
        }
    }

    fn decode(&self, token: &str, typ: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        if header.typ.as_deref() != Some(typ) {
            return Err(TokenError::WrongType);
        }
        let key = header.kid.as_deref().and_then(|id| self.keys.find(id)).ok_or(TokenError::UnknownKey)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::BadSignature,
                ErrorKind::InvalidIssuer => TokenError::WrongIssuer,
                ErrorKind::InvalidAudience => TokenError::WrongAudience,
                _ => TokenError::Malformed,
            })?
            .claims;
        self.check_expiry(claims.exp)?;
        let ahead = claims.nbf.max(claims.iat).saturating_sub(self.clock.unix());
        if ahead > whole_seconds(self.config.leeway) {
            return Err(TokenError::NotYetValid { seconds: ahead });
        }
        Ok(claims)
    }

    fn check_expiry(&self, expires_at: i64) -> Result<(), TokenError> {
        let past = self.clock.unix().saturating_sub(expires_at);
        if past >= whole_seconds(self.config.leeway) {
            return Err(TokenError::Expired { seconds: past });
        }
        Ok(())
    }
}
