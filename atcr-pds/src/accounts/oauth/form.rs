use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use url::form_urlencoded;

use super::OAuthError;

/// The longest body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The parameters of a request to an endpoint, or of a page's form: each name once.
#[derive(Debug, Clone)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// A parameter; one that is empty is not there (RFC 6749 section 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a parameter was sent, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn of_query(query: &str) -> Result<Self, OAuthError> {
        Self::of_pairs(form_urlencoded::parse(query.as_bytes()).into_owned())
    }

    fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, OAuthError> {
        let mut form = BTreeMap::new();
        for (name, value) in pairs {
            if form.contains_key(&name) {
                return Err(OAuthError::invalid_request(format!("Duplicate \"{name}\" parameter")));
            }
            form.insert(name, value);
        }
        Ok(Self(form))
    }

    fn of_json(bytes: &[u8]) -> Result<Self, OAuthError> {
        let members: BTreeMap<String, Value> =
            serde_json::from_slice(bytes).map_err(|_| OAuthError::invalid_request("Invalid request body"))?;
        let pairs = members.into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        });
        Self::of_pairs(pairs)
    }
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, OAuthError> {
        let kind =
            request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY);
        let bytes = body.await.map_err(|_| OAuthError::invalid_request("Invalid request body"))?;
        match kind.as_str() {
            "application/x-www-form-urlencoded" => {
                Self::of_pairs(form_urlencoded::parse(&bytes).into_owned())
            }
            // The specification has forms only; clients of before 2025 send JSON, and the reference server reads it.
            "application/json" => Self::of_json(&bytes),
            _ => Err(OAuthError::invalid_request(format!("Unsupported content-type: {kind}"))),
        }
    }
}
