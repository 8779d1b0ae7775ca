use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::jwt::ALGORITHMS;
use crate::accounts::AccountError;
use crate::xrpc::XrpcError;

type Text = Cow<'static, str>;

/// A refusal in the words of OAuth (RFC 6749 section 5.2, RFC 9126 section 2.3, RFC 9449 section 7.1).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}: {description}")]
pub(in crate::accounts) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: Text,
    /// Whether the answer asks for a DPoP proof.
    challenge: bool,
}

impl OAuthError {
    fn bad(error: &'static str, description: impl Into<Text>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description: description.into(), challenge: false }
    }

    fn challenge(error: &'static str, description: impl Into<Text>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, challenge: true, ..Self::bad(error, description) }
    }

    pub(super) fn invalid_request(description: impl Into<Text>) -> Self {
        Self::bad("invalid_request", description)
    }

    pub(super) fn invalid_client(description: impl Into<Text>) -> Self {
        Self::bad("invalid_client", description)
    }

    pub(super) fn invalid_client_metadata(description: impl Into<Text>) -> Self {
        Self::bad("invalid_client_metadata", description)
    }

    pub(super) fn invalid_redirect_uri(description: impl Into<Text>) -> Self {
        Self::bad("invalid_redirect_uri", description)
    }

    pub(super) fn invalid_grant(description: impl Into<Text>) -> Self {
        Self::bad("invalid_grant", description)
    }

    pub(super) fn invalid_scope(description: impl Into<Text>) -> Self {
        Self::bad("invalid_scope", description)
    }

    pub(super) fn unsupported_response_type(description: impl Into<Text>) -> Self {
        Self::bad("unsupported_response_type", description)
    }

    pub(super) fn invalid_proof(description: impl Into<Text>) -> Self {
        Self::challenge("invalid_dpop_proof", description)
    }

    pub(super) fn invalid_token(description: impl Into<Text>) -> Self {
        Self::challenge("invalid_token", description)
    }

    pub(super) fn use_nonce(description: &'static str) -> Self {
        Self::bad("use_dpop_nonce", description)
    }

    pub(super) fn busy() -> Self {
        let description = "too many authorization requests are open, try again later";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, ..Self::bad("temporarily_unavailable", description) }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    fn www_authenticate(&self) -> Option<HeaderValue> {
        let mut value = format!("DPoP algs=\"{}\", error=\"{}\"", ALGORITHMS.join(" "), self.error);
        // A quoted string cannot hold a quote without escapes that few clients read.
        if !self.description.contains('"') {
            value.push_str(&format!(", error_description=\"{}\"", self.description));
        }
        HeaderValue::try_from(value).ok()
    }
}

impl From<AccountError> for OAuthError {
    fn from(error: AccountError) -> Self {
        tracing::error!(%error, "an OAuth request failed");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, ..Self::bad("server_error", "Internal Server Error") }
    }
}

impl From<sqlx::Error> for OAuthError {
    fn from(error: sqlx::Error) -> Self {
        AccountError::from(error).into()
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let challenge = self.www_authenticate().filter(|_| self.challenge);
        let body = Json(json!({"error": self.error, "error_description": self.description}));
        let mut response = (self.status, body).into_response();
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// As a resource server says it: always a challenge, in the form of an XRPC error.
impl From<OAuthError> for XrpcError {
    fn from(error: OAuthError) -> Self {
        if error.status.is_server_error() {
            return Self::new(error.status, "InternalServerError", error.description);
        }
        let challenge = error.www_authenticate();
        let refused = Self::new(StatusCode::UNAUTHORIZED, error.error, error.description);
        match challenge {
            Some(challenge) => refused.with_header(WWW_AUTHENTICATE, challenge),
            None => refused,
        }
    }
}
