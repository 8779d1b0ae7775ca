use std::sync::Arc;
use std::time::Duration;

use atcr_core::{Account, Principal};
use jsonwebtoken::{Algorithm, Header};

use super::claims::{ACCESS, AuthMethod, Claims, REFRESH};
use super::{RepositoryAccess, TokenConfig, TokenKeys};
use crate::clock::{Clock, whole_seconds};
use crate::jwt;

/// A token as it is handed out. Its `Debug` form hides it.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// When it was made, in seconds since 1970.
    pub issued_at: i64,
    /// How long it lives.
    pub expires_in: Duration,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("issued_at", &self.issued_at)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random(#[from] getrandom::Error),
    /// The signature could not be made.
    #[error("the token could not be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Makes registry tokens and refresh tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    keys: Arc<TokenKeys>,
    config: Arc<TokenConfig>,
    clock: Clock,
}

impl TokenIssuer {
    /// An issuer that signs with the current one of `keys`.
    pub fn new(keys: Arc<TokenKeys>, config: TokenConfig, clock: Clock) -> Self {
        Self { keys, config: Arc::new(config), clock }
    }

    /// The keys.
    pub fn keys(&self) -> &TokenKeys {
        &self.keys
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A registry token for a caller; whether the caller may have that access is decided before.
    pub fn issue(
        &self,
        principal: &Principal,
        access: &[RepositoryAccess],
    ) -> Result<IssuedToken, IssueError> {
        let lifetime = self.config.lifetime.max(Duration::from_secs(60));
        let account = match principal {
            Principal::Account(account) => Some(account),
            Principal::Anonymous => None,
        };
        let mut claims = self.claims(account, lifetime)?;
        claims.access = access.iter().map(Into::into).collect();
        self.sign(ACCESS, &claims, lifetime)
    }

    /// A refresh token for an account: good at the token endpoint only, while the account stays signed in.
    pub fn issue_refresh(&self, account: &Account) -> Result<IssuedToken, IssueError> {
        let lifetime = self.config.refresh_lifetime;
        self.sign(REFRESH, &self.claims(Some(account), lifetime)?, lifetime)
    }

    fn claims(&self, account: Option<&Account>, lifetime: Duration) -> Result<Claims, IssueError> {
        let now = self.clock.unix();
        Ok(Claims {
            iss: self.config.issuer.clone(),
            aud: vec![self.config.service.clone()],
            sub: account.map(|account| account.did.to_string()).unwrap_or_default(),
            exp: now.saturating_add(whole_seconds(lifetime)),
            nbf: now,
            iat: now,
            jti: jwt::random_id()?,
            access: Vec::new(),
            auth_method: account.map(|account| AuthMethod::of(account.proof)),
            handle: account.and_then(|account| account.handle.clone()),
        })
    }

    fn sign(&self, typ: &str, claims: &Claims, lifetime: Duration) -> Result<IssuedToken, IssueError> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.keys.key_id().to_owned());
        let token = jsonwebtoken::encode(&header, claims, self.keys.signing())?;
        Ok(IssuedToken { token, issued_at: claims.iat, expires_in: lifetime })
    }
}
