use std::fmt;

use atcr_core::syntax::Did;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::accounts::AccountError;

const TYPE: &str = "at+jwt";

/// The claims of an access token (RFC 9068), bound to a key (RFC 9449 section 6.1). What it is good for stands in
/// the database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AccessToken {
    pub(super) jti: String,
    pub(super) sub: Did,
    pub(super) iat: i64,
    pub(super) exp: i64,
    pub(super) aud: String,
    pub(super) cnf: Confirmation,
    pub(super) client_id: String,
    pub(super) iss: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Confirmation {
    pub(super) jkt: String,
}

/// Makes and reads access tokens: HS256, for this server's own eyes.
pub(super) struct AccessTokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

impl AccessTokens {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret) }
    }

    pub(super) fn sign(&self, token: &AccessToken) -> Result<String, AccountError> {
        let header = Header { typ: Some(TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, token, &self.encoding)
            .map_err(|error| AccountError::Internal(format!("an access token could not be signed: {error}")))
    }

    /// The claims of a token that this server made for itself, be it too old.
    pub(super) fn read(&self, token: &str, issuer: &str, audience: &Did) -> Option<AccessToken> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "sub", "iss"]);
        // The library asks the system for the time; here it is the server's clock that counts.
        validation.validate_exp = false;
        let read = jsonwebtoken::decode::<AccessToken>(token, &self.decoding, &validation).ok()?;
        (read.header.typ.as_deref() == Some(TYPE)).then_some(read.claims)
    }
}
