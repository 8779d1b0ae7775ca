use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use http::request::Parts;
use serde_json::{Value, json};

use super::OAuthError;
use super::access_token::{AccessToken, Confirmation};
use super::browser;
use super::client::{Client, ClientAuth};
use super::dpop::Proof;
use super::form::Form;
use super::grant::{Grant, NewGrant, RefreshToken, TOKEN_LIFETIME, Tokens};
use super::jwt::hash;
use super::replay::Replays;
use super::request::AuthorizationRequest;
use super::scope::{Scopes, expand};
use crate::accounts::Pds;
use atcr_core::syntax::Did;

/// How long a code challenge cannot be used again, in seconds.
const CHALLENGE_MEMORY: i64 = 24 * 60 * 60;

/// A request to an endpoint by a client that has proven who it is and which key it has.
struct Known {
    client: std::sync::Arc<Client>,
    auth: ClientAuth,
    proof: Proof,
    form: Form,
}

async fn read(request: Request) -> Result<(Parts, Form), OAuthError> {
    let (parts, body) = request.into_parts();
    let form = Form::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    Ok((parts, form))
}

async fn known(pds: &Pds, form: Form, proof: Option<Proof>) -> Result<Known, OAuthError> {
    let id = form.get("client_id").ok_or_else(|| OAuthError::invalid_grant("Client credentials missing"))?;
    let proof = proof.ok_or_else(|| OAuthError::invalid_proof("DPoP proof required"))?;
    let (client, auth) = pds.authenticate_client(&form, id, Some(&proof.jkt)).await?;
    Ok(Known { client, auth, proof, form })
}

/// The token endpoint (RFC 6749 section 3.2).
pub(super) async fn token(State(pds): State<Pds>, request: Request) -> Result<Json<Value>, OAuthError> {
    let (parts, form) = read(request).await?;
    let proof = pds.proof(&parts, None)?;
    let known = known(&pds, form, proof).await?;
    browser::sweep(pds.pool(), pds.now()).await?;
    match known.form.get("grant_type") {
        Some("authorization_code") => pds.redeem(&known).await,
        Some("refresh_token") if known.client.refreshes => pds.refresh(&known).await,
        Some("refresh_token") => {
            Err(OAuthError::invalid_grant("\"refresh_token\" grant type is not allowed for this client"))
        }
        Some(other) => Err(OAuthError::invalid_grant(format!("Grant type \"{other}\" is not supported"))),
        None => Err(OAuthError::invalid_grant("Invalid request payload: grant_type is required")),
    }
}

/// The revocation endpoint (RFC 7009). A token that is not known, or not the client's, is as revoked as it can be.
pub(super) async fn revoke(State(pds): State<Pds>, request: Request) -> Result<Json<Value>, OAuthError> {
    let (parts, form) = read(request).await?;
    if form.get("client_id").is_none() {
        return Err(OAuthError::invalid_request("Client credentials missing"));
    }
    if form.get("token").is_none() {
        return Err(OAuthError::invalid_request("Invalid request payload: token is required"));
    }
    let proof = pds.proof(&parts, None)?;
    let revoked = async { pds.revoke(&known(&pds, form, proof).await?).await };
    if let Err(error) = revoked.await {
        if error.status().is_server_error() {
            return Err(error);
        }
        tracing::debug!(%error, "a token was not revoked");
    }
    Ok(Json(json!({})))
}

impl Known {
    /// Whether the client is the one that has begun, with the same keys.
    fn check(&self, client: &str, auth: &ClientAuth, jkt: Option<&str>) -> Result<(), OAuthError> {
        if client != self.client.id {
            return Err(OAuthError::invalid_grant("Token was not issued to this client"));
        }
        if jkt.is_some_and(|jkt| jkt != self.proof.jkt) {
            return Err(OAuthError::invalid_grant("DPoP proof does not match the expected JKT"));
        }
        // A client may begin to prove who it is; never the other way round.
        if *auth != ClientAuth::None && *auth != self.auth {
            return Err(OAuthError::invalid_grant(
                "The session was initiated with a different key than the client assertion currently used",
            ));
        }
        Ok(())
    }

    /// Whether the request is for the code of `request` and knows its verifier (RFC 7636 section 4.6).
    fn check_code(&self, request: &AuthorizationRequest) -> Result<(), OAuthError> {
        let parameters = &request.parameters;
        self.check(&request.client, &request.client_auth, parameters.dpop_jkt.as_deref())?;
        if self.form.get("redirect_uri") != Some(&parameters.redirect_uri) {
            return Err(OAuthError::invalid_grant(
                "The redirect_uri parameter must match the one used in the authorization request",
            ));
        }
        let verifier = self.form.get("code_verifier");
        let verifier = verifier.ok_or_else(|| OAuthError::invalid_grant("code_verifier is required"))?;
        if verifier.len() < 43 {
            return Err(OAuthError::invalid_grant("code_verifier too short"));
        }
        if verifier.len() > 128 || hash(verifier) != parameters.code_challenge {
            return Err(OAuthError::invalid_grant("Invalid code_verifier"));
        }
        Ok(())
    }
}

impl Pds {
    /// Trades a code for tokens, once. Whoever comes with it again ends what it gave.
    async fn redeem(&self, known: &Known) -> Result<Json<Value>, OAuthError> {
        const INVALID: &str = "Invalid code";
        let now = self.now();
        let code = known.form.get("code").ok_or_else(|| OAuthError::invalid_grant(INVALID))?;
        // Read first what needs other parts of the server; only then is the code used up.
        let row = sqlx::query("select * from oauth_requests where code = ?").bind(hash(code));
        let scope = match row.fetch_optional(self.pool()).await? {
            Some(row) => expand(self, &AuthorizationRequest::read(&row)?.parameters.scope).await?,
            None => Scopes::default(),
        };
        let mut transaction = self.pool().begin_with("begin immediate").await?;
        let row = sqlx::query("delete from oauth_requests where code = ? returning *")
            .bind(hash(code))
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else {
            if let Some(grant) = Grant::by_code(&mut transaction, code).await? {
                grant.delete(&mut *transaction).await?;
                sqlx::query("delete from oauth_sessions where device = ? and did = ?")
                    .bind(&grant.device)
                    .bind(grant.did.as_str())
                    .execute(&mut *transaction)
                    .await?;
                tracing::warn!(did = %grant.did, client = grant.client, "a code was used twice; its session is ended");
            }
            transaction.commit().await?;
            return Err(OAuthError::invalid_grant(INVALID));
        };
        let request = AuthorizationRequest::read(&row)?;
        let challenge = &request.parameters.code_challenge;
        let mut checked = known.check_code(&request);
        if request.expires <= now {
            checked = Err(OAuthError::invalid_grant("This code has expired"));
        } else if checked.is_ok()
            && !Replays::code_challenge(challenge, now + CHALLENGE_MEMORY).first_use(&mut transaction).await?
        {
            checked = Err(OAuthError::invalid_grant("Code challenge already used"));
        }
        let (Ok(()), Some(did)) = (&checked, &request.did) else {
            transaction.commit().await?;
            checked?;
            return Err(OAuthError::invalid_grant(INVALID));
        };
        let new = NewGrant {
            did,
            client: &known.client.id,
            client_auth: &known.auth,
            device: request.device.as_deref(),
            jkt: &known.proof.jkt,
            requested: &request.parameters.scope,
            scope: &scope,
            code,
            refreshes: known.client.refreshes,
        };
        let tokens = new.insert(&mut transaction, now).await?;
        transaction.commit().await?;
        self.answer(known, did, &scope, tokens)
    }

    /// Trades a refresh token for the next pair. One that was used already was stolen from somebody, and so was one
    /// that comes with other keys: the session ends.
    async fn refresh(&self, known: &Known) -> Result<Json<Value>, OAuthError> {
        let invalid = || OAuthError::invalid_grant("Invalid refresh token");
        let now = self.now();
        let shown = known.form.get("refresh_token").and_then(RefreshToken::read).ok_or_else(invalid)?;
        let before = Grant::by_id(self.pool(), &shown.grant()).await?.ok_or_else(invalid)?;
        // A permission set may have changed. One that cannot be had now still gives what it gave.
        let scope = match expand(self, &before.requested).await {
            Ok(scope) => scope,
            Err(error) => {
                tracing::warn!(%error, "a session goes on with the permissions that it had");
                before.scope
            }
        };
        let mut transaction = self.pool().begin_with("begin immediate").await?;
        let grant = Grant::by_id(&mut *transaction, &shown.grant()).await?.ok_or_else(invalid)?;
        let checked = if !shown.is_current(&grant) {
            tracing::warn!(did = %grant.did, client = grant.client, "a refresh token was used twice; its session is ended");
            Err(OAuthError::invalid_grant("Refresh token replayed"))
        } else if grant.expires <= now {
            Err(OAuthError::invalid_grant("Session expired"))
        } else {
            known.check(&grant.client, &grant.client_auth, Some(&grant.jkt))
        };
        if let Err(error) = checked {
            grant.delete(&mut *transaction).await?;
            transaction.commit().await?;
            return Err(error);
        }
        let tokens = grant.rotate(&mut transaction, &shown, &known.auth, &scope, now).await?;
        transaction.commit().await?;
        self.answer(known, &grant.did, &scope, tokens)
    }

    fn answer(
        &self,
        known: &Known,
        did: &Did,
        scope: &Scopes,
        tokens: Tokens,
    ) -> Result<Json<Value>, OAuthError> {
        let now = self.now();
        let claims = AccessToken {
            jti: tokens.token,
            sub: did.clone(),
            iat: now,
            exp: now + TOKEN_LIFETIME,
            aud: self.did().to_string(),
            cnf: Confirmation { jkt: known.proof.jkt.clone() },
            client_id: known.client.id.clone(),
            iss: self.issuer().to_owned(),
        };
        let mut answer = json!({
            "access_token": self.oauth().tokens.sign(&claims)?,
            "token_type": "DPoP",
            "scope": scope.as_str(),
            "expires_in": TOKEN_LIFETIME,
            "sub": did,
        });
        if let Some(refresh) = tokens.refresh {
            answer["refresh_token"] = json!(refresh);
        }
        Ok(Json(answer))
    }

    async fn revoke(&self, known: &Known) -> Result<(), OAuthError> {
        let token = known.form.get("token").unwrap_or_default();
        let claims = self.oauth().tokens.read(token, self.issuer(), self.did());
        let grant = match (RefreshToken::read(token), claims) {
            (Some(refresh), _) => Grant::by_id(self.pool(), &refresh.grant()).await?,
            (None, Some(claims)) => Grant::by_token(self.pool(), &claims.jti).await?,
            (None, None) => None,
        };
        let Some(grant) = grant else { return Ok(()) };
        known.check(&grant.client, &grant.client_auth, Some(&grant.jkt))?;
        grant.delete(self.pool()).await
    }
}
