//! The XRPC methods as a protected resource: who a DPoP-bound access token lets in.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CACHE_CONTROL};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::grant::Grant;
use super::scope::Scopes;
use super::{OAuthError, dpop::Proof};
use crate::accounts::Pds;
use atcr_core::syntax::Did;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The token of an `Authorization: DPoP …` header.
fn dpop_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("dpop").then(|| token.trim())
}

impl Pds {
    /// The account whose DPoP-bound token a request shows, and what the token is good for. `None` when the request
    /// does not show one.
    pub(in crate::accounts) async fn oauth_caller(
        &self,
        request: &Parts,
    ) -> Result<Option<(Did, Scopes)>, OAuthError> {
        let Some(token) = dpop_token(&request.headers) else { return Ok(None) };
        let proof = self.proof(request, Some(token))?;
        let invalid = || OAuthError::invalid_token("Invalid token");
        let claims = self.oauth().tokens.read(token, self.issuer(), self.did()).ok_or_else(invalid)?;
        let proof = proof.ok_or_else(|| OAuthError::invalid_proof("DPoP proof required"))?;
        if claims.cnf.jkt != proof.jkt {
            return Err(OAuthError::invalid_token("Invalid DPoP key binding"));
        }
        // Tokens of sessions that ended, or were refreshed since, name nothing any more.
        let grant = Grant::by_token(self.pool(), &claims.jti).await?.ok_or_else(invalid)?;
        if grant.jkt != proof.jkt || grant.did != claims.sub {
            return Err(invalid());
        }
        if grant.token_expires.min(claims.exp) <= self.now() {
            return Err(OAuthError::invalid_token("Token expired"));
        }
        Ok(Some((grant.did, grant.scope)))
    }

    /// The proof of a request to this server.
    pub(super) fn proof(&self, request: &Parts, token: Option<&str>) -> Result<Option<Proof>, OAuthError> {
        let mut url = self.config().public_url.clone();
        url.set_path(request.uri.path());
        url.set_query(None);
        self.oauth().dpop.check(&request.method, &url, &request.headers, token)
    }
}

/// Hands out the next nonce with each answer to a request that shows a DPoP-bound token.
pub(in crate::accounts) async fn nonces(State(pds): State<Pds>, request: Request, next: Next) -> Response {
    let bound = dpop_token(request.headers()).is_some();
    let mut response = next.run(request).await;
    if bound {
        add_nonce(&pds, response.headers_mut());
    }
    response
}

/// The same for the endpoints, whose every answer carries a nonce and is kept by nobody.
pub(super) async fn always_nonces(State(pds): State<Pds>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    add_nonce(&pds, response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn add_nonce(pds: &Pds, headers: &mut HeaderMap) {
    if let Ok(nonce) = HeaderValue::try_from(pds.oauth().dpop.nonce()) {
        headers.insert(DPOP_NONCE, nonce);
    }
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("DPoP-Nonce, WWW-Authenticate"));
}
