use std::time::Duration;

use atcr_core::syntax::Datetime;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::pds_session::SignInError;
use crate::registry_token::{IssueError, IssuedToken, RepositoryAccess};
use crate::repository_policy::PolicyError;

use super::scope;

/// How long a client waits when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// A token, under both names that clients look for.
pub(super) struct Granted {
    pub(super) token: IssuedToken,
    pub(super) refresh: Option<IssuedToken>,
    pub(super) access: Vec<RepositoryAccess>,
}

impl IntoResponse for Granted {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            token: &'a str,
            access_token: &'a str,
            expires_in: u64,
            issued_at: Datetime,
            scope: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            refresh_token: Option<&'a str>,
        }
        let issued_at = jiff::Timestamp::from_second(self.token.issued_at).unwrap_or_default();
        let body = Body {
            token: &self.token.token,
            access_token: &self.token.token,
            expires_in: self.token.expires_in.as_secs(),
            issued_at: issued_at.into(),
            scope: scope::write(&self.access),
            refresh_token: self.refresh.as_ref().map(|refresh| refresh.token.as_str()),
        };
        ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

/// A request that gets no token: the error JSON of the distribution specification.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: Value::Null, retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    /// Too much was guessed at one address.
    pub(super) fn address_waits(after: Duration) -> Self {
        let message =
            format!("too many failed sign-ins from your address; wait {} s, then try again", after.as_secs());
        Self::wait(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message, after)
            .with_reason("too_many_attempts")
    }

    /// Why, in one word.
    pub(super) fn reason(&self) -> &str {
        self.detail["reason"].as_str().unwrap_or("refused")
    }

    /// Whether somebody who guesses would be told this.
    pub(super) fn is_wrong_guess(&self) -> bool {
        matches!(self.reason(), "wrong_password" | "unknown_identity" | "invalid_identifier")
    }

    fn wait(status: StatusCode, code: &'static str, message: String, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(status, code, message) }
    }

    fn with_reason(self, reason: &'static str) -> Self {
        Self { detail: json!({ "reason": reason }), ..self }
    }
}

impl From<SignInError> for Failure {
    fn from(error: SignInError) -> Self {
        let message = error.to_string();
        let too_many =
            |after| Self::wait(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message.clone(), after);
        let unavailable =
            || Self::wait(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message.clone(), RETRY_AFTER);
        let refused = |reason| Self::unauthorized(message.clone()).with_reason(reason);
        match error {
            SignInError::InvalidIdentifier { .. } => refused("invalid_identifier"),
            SignInError::UnknownIdentity { .. } => refused("unknown_identity"),
            SignInError::WrongPassword { .. } => refused("wrong_password"),
            SignInError::SecondFactor { .. } => refused("second_factor"),
            SignInError::AccountClosed { .. } => refused("account_closed"),
            SignInError::OtherAccount { .. } => refused("other_account"),
            SignInError::UnknownDevice => refused("unknown_device"),
            SignInError::SessionEnded { login_url, .. } => {
                let detail = json!({ "reason": "session_ended", "login_url": login_url });
                Self { detail, ..Self::unauthorized(message.clone()) }
            }
            SignInError::TooManyAttempts { retry_after, .. } => {
                too_many(retry_after).with_reason("too_many_attempts")
            }
            SignInError::PdsRateLimited { retry_after, .. } => {
                too_many(retry_after.unwrap_or(RETRY_AFTER)).with_reason("pds_rate_limited")
            }
            SignInError::PdsUnavailable { .. } => unavailable().with_reason("pds_unavailable"),
            SignInError::IdentityUnavailable { .. } => unavailable().with_reason("identity_unavailable"),
            SignInError::Store(_) => unavailable().with_reason("store"),
        }
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::wait(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", error.to_string(), RETRY_AFTER)
            .with_reason("identity_unavailable")
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        tracing::error!(%error, "a token could not be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "an internal error occurred")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({
            "errors": [{ "code": self.code, "message": self.message, "detail": self.detail }],
        });
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="atcr""#));
        }
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        response
    }
}
