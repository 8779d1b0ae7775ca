use std::time::Duration;

use atcr_core::crypto::SigningKey;
use atcr_core::syntax::Did;
use serde::Serialize;

use crate::clock::{Clock, whole_seconds};
use crate::jwt;

/// What a service token says.
#[derive(Debug, Clone)]
pub struct ServiceClaims<'a> {
    /// Whose key signs: the account, or the service that acts as itself.
    pub issuer: &'a Did,
    /// The service that is called: its DID, with or without the fragment of the service (`#atcr_hold`).
    pub audience: &'a str,
    /// The NSID of the one method it is good for.
    pub method: Option<&'a str>,
    /// The account in whose matter a service calls as itself.
    pub subject: Option<&'a Did>,
    /// How long it is good for; verifiers take at most an hour with a method, five minutes without.
    pub lifetime: Duration,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random(#[from] getrandom::Error),
    /// A claim could not be written.
    #[error("the claims cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Header {
    typ: &'static str,
    alg: &'static str,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a Did,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a Did>,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lxm: Option<&'a str>,
    jti: String,
}

/// Makes a service token: ES256 or ES256K by the curve of the key, with a random `jti`.
pub fn mint(key: &SigningKey, claims: &ServiceClaims<'_>, clock: &Clock) -> Result<String, MintError> {
    let now = clock.unix();
    let payload = Payload {
        iss: claims.issuer,
        aud: claims.audience,
        sub: claims.subject,
        iat: now,
        exp: now.saturating_add(whole_seconds(claims.lifetime)),
        lxm: claims.method,
        jti: jwt::random_id()?,
    };
    let header = Header { typ: "JWT", alg: key.curve().jwt_algorithm() };
    let signed = format!("{}.{}", jwt::encode(&header)?, jwt::encode(&payload)?);
    let signature = jwt::encode_bytes(&key.sign(signed.as_bytes()));
    Ok(format!("{signed}.{signature}"))
}
