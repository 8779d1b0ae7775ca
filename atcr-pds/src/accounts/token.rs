use std::fmt;

use atcr_core::syntax::Did;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::AccountError;
use crate::Clock;

/// How long an access token works.
const ACCESS_LIFETIME: SignedDuration = SignedDuration::from_hours(2);
/// How long a refresh token works.
pub(super) const REFRESH_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);

const ACCESS_TYPE: &str = "at+jwt";
const REFRESH_TYPE: &str = "refresh+jwt";

/// What a session token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Scope {
    /// A session opened with the account's password.
    #[serde(rename = "com.atproto.access")]
    Access,
    /// A session opened with an app password.
    #[serde(rename = "com.atproto.appPass")]
    AppPassword,
    /// A session opened with an app password that may do more.
    #[serde(rename = "com.atproto.appPassPrivileged")]
    AppPasswordPrivileged,
    /// A token that only gets the next pair.
    #[serde(rename = "com.atproto.refresh")]
    Refresh,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    scope: Scope,
    aud: String,
    sub: Did,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    iat: i64,
    exp: i64,
}

/// Makes and reads the tokens of sessions: HS256, for this server's own eyes.
pub(super) struct SessionTokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    audience: Did,
    clock: Clock,
}

impl fmt::Debug for SessionTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTokens").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// A refresh token that was made or read.
#[derive(Debug, Clone)]
pub(super) struct RefreshToken {
    pub(super) did: Did,
    pub(super) id: String,
    pub(super) expires: Timestamp,
}

impl SessionTokens {
    pub(super) fn new(secret: &[u8], audience: Did, clock: Clock) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            audience,
            clock,
        }
    }

    pub(super) fn access(&self, did: &Did, scope: Scope) -> Result<String, AccountError> {
        let expires = self.clock.now() + ACCESS_LIFETIME;
        self.encode(ACCESS_TYPE, did, scope, None, expires)
    }

    pub(super) fn refresh(&self, token: &RefreshToken) -> Result<String, AccountError> {
        self.encode(REFRESH_TYPE, &token.did, Scope::Refresh, Some(token.id.clone()), token.expires)
    }

    fn encode(
        &self,
        kind: &str,
        did: &Did,
        scope: Scope,
        jti: Option<String>,
        expires: Timestamp,
    ) -> Result<String, AccountError> {
        let header = Header { typ: Some(kind.to_owned()), ..Header::new(Algorithm::HS256) };
        let claims = Claims {
            scope,
            aud: self.audience.to_string(),
            sub: did.clone(),
            jti,
            iat: self.clock.now().as_second(),
            exp: expires.as_second(),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
            .map_err(|error| AccountError::Internal(format!("a session token could not be signed: {error}")))
    }

    /// Whose access token it is, and what it is good for.
    pub(super) fn read_access(&self, token: &str) -> Result<(Did, Scope), AccountError> {
        let claims = self.decode(ACCESS_TYPE, token)?;
        match claims.scope {
            Scope::Refresh => Err(AccountError::InvalidToken("Bad token scope")),
            scope => Ok((claims.sub, scope)),
        }
    }

    pub(super) fn read_refresh(&self, token: &str) -> Result<RefreshToken, AccountError> {
        let claims = self.decode(REFRESH_TYPE, token)?;
        match (claims.scope, claims.jti, Timestamp::from_second(claims.exp)) {
            (Scope::Refresh, Some(id), Ok(expires)) => Ok(RefreshToken { did: claims.sub, id, expires }),
            _ => Err(AccountError::InvalidToken("Bad token scope")),
        }
    }

    fn decode(&self, kind: &str, token: &str) -> Result<Claims, AccountError> {
        const UNVERIFIED: AccountError = AccountError::InvalidToken("Token could not be verified");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // The library asks the system for the time; here it is the server's clock that counts.
        validation.validate_exp = false;
        let read =
            jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).map_err(|_| UNVERIFIED)?;
        if read.header.typ.as_deref() != Some(kind) {
            return Err(AccountError::InvalidToken("Invalid token type"));
        }
        if read.claims.exp <= self.clock.now().as_second() {
            return Err(AccountError::ExpiredToken("Token has expired"));
        }
        Ok(read.claims)
    }
}
