use std::sync::Arc;

use serde::Deserialize;

use super::{AuthMethod, Client, ClientAuth};
use crate::accounts::Pds;
use crate::accounts::oauth::OAuthError;
use crate::accounts::oauth::form::Form;
use crate::accounts::oauth::jwt::{Jwt, JwtError};
use crate::accounts::oauth::replay::Replays;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How old an assertion may be, and how far ahead of this server's time, in seconds.
const MAX_AGE: i64 = 60;

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    jti: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    nbf: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, issuer: &str) -> bool {
        match self {
            Self::One(one) => one == issuer,
            Self::Many(many) => many.iter().any(|one| one == issuer),
        }
    }
}

impl Pds {
    /// Lets the client that a request names prove that it is the one (RFC 7523 section 3).
    pub(in crate::accounts::oauth) async fn authenticate_client(
        &self,
        form: &Form,
        client_id: &str,
        proof_key: Option<&str>,
    ) -> Result<(Arc<Client>, ClientAuth), OAuthError> {
        let client = self.oauth().clients.get(client_id).await?;
        if client.is_public() {
            return Ok((client, ClientAuth::None));
        }
        let assertion = form.get("client_assertion").ok_or_else(|| {
            OAuthError::invalid_request(
                "client authentication method \"private_key_jwt\" required a \"client_assertion\"",
            )
        })?;
        match form.get("client_assertion_type") {
            Some(ASSERTION_TYPE) => {}
            other => {
                return Err(OAuthError::invalid_client(format!(
                    "Unsupported client_assertion_type \"{}\"",
                    other.unwrap_or_default()
                )));
            }
        }
        let jwt = Jwt::split(assertion).map_err(failed)?;
        let Some(kid) = jwt.header.kid.clone() else {
            return Err(OAuthError::invalid_client("\"kid\" required in client_assertion"));
        };
        let client = self.oauth().clients.with_key(client, &kid).await?;
        let AuthMethod::PrivateKeyJwt(keys) = &client.auth else {
            return Err(OAuthError::invalid_client("the client has just become a public one"));
        };
        let mut fitting =
            keys.iter().filter(|key| key.kid.as_ref() == Some(&kid) && key.algorithm() == jwt.header.alg);
        let key = fitting.next().ok_or_else(|| failed("no applicable key found in the JSON Web Key Set"))?;
        let claims: Claims = jwt.verify(key).map_err(failed::<JwtError>)?;
        let now = self.clock().now().as_second();
        let id = claims.check(client_id, self.issuer(), now).map_err(failed)?;
        let jkt = key.thumbprint();
        if proof_key == Some(jkt.as_str()) {
            return Err(OAuthError::invalid_request(
                "The DPoP proof must be signed with a different key than the client assertion",
            ));
        }
        let auth = ClientAuth::PrivateKeyJwt { kid, alg: jwt.header.alg.clone(), jkt };
        let mut connection = self.accounts().pool.acquire().await?;
        if !Replays::assertion(client_id, &id, now + 2 * MAX_AGE).first_use(&mut connection).await? {
            return Err(OAuthError::invalid_grant("private_key_jwt jti reused"));
        }
        drop(connection);
        Ok((client, auth))
    }
}

fn failed<T: std::fmt::Display>(what: T) -> OAuthError {
    OAuthError::invalid_client(format!("Validation of \"client_assertion\" failed: {what}"))
}

impl Claims {
    /// The identifier of the assertion, if it is from the client, for this server and of now.
    fn check(self, client_id: &str, issuer: &str, now: i64) -> Result<String, &'static str> {
        if self.iss.as_deref() != Some(client_id) {
            return Err("unexpected \"iss\" claim value");
        }
        if self.sub.as_deref() != Some(client_id) {
            return Err("unexpected \"sub\" claim value");
        }
        if !self.aud.is_some_and(|aud| aud.names(issuer)) {
            return Err("unexpected \"aud\" claim value");
        }
        let made = self.iat.ok_or("missing required \"iat\" claim")?;
        if made.saturating_add(MAX_AGE) < now {
            return Err("\"iat\" claim timestamp check failed (too far in the past)");
        }
        if made > now.saturating_add(MAX_AGE) {
            return Err("\"iat\" claim timestamp check failed (it should be in the past)");
        }
        if self.exp.is_some_and(|exp| exp <= now) {
            return Err("\"exp\" claim timestamp check failed");
        }
        if self.nbf.is_some_and(|nbf| nbf > now.saturating_add(MAX_AGE)) {
            return Err("\"nbf\" claim timestamp check failed");
        }
        self.jti.filter(|id| !id.is_empty()).ok_or("missing required \"jti\" claim")
    }
}
