use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::XrpcError;

/// The longest JSON body, in bytes, as in the reference server.
pub const MAX_INPUT_BYTES: usize = 1_000_000;

/// The JSON body of a procedure, at most [`MAX_INPUT_BYTES`] long.
#[derive(Debug, Clone)]
pub struct Input<T>(
    /// What was sent.
    pub T,
);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = XrpcError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, XrpcError> {
        let (parts, body) = request.into_parts();
        let method = parts.uri.path().trim_start_matches("/xrpc/");
        let encoding = content_type(&parts.headers)?;
        if !encoding.eq_ignore_ascii_case("application/json") {
            return Err(XrpcError::invalid_request(format!(
                "Wrong request encoding (Content-Type): {encoding}"
            )));
        }
        let bytes = read_body(body).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(XrpcError::invalid_request(format!("Invalid {method} input: {error}"))),
        }
    }
}

/// The media type of a body, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Result<&str, XrpcError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() {
        return Err(XrpcError::invalid_request("Request encoding (Content-Type) required but not provided"));
    }
    Ok(kind)
}

async fn read_body(body: Body) -> Result<bytes::Bytes, XrpcError> {
    axum::body::to_bytes(body, MAX_INPUT_BYTES).await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if cause.is::<http_body_util::LengthLimitError>() {
            XrpcError::too_large("PayloadTooLargeError")
        } else {
            XrpcError::new(StatusCode::BAD_REQUEST, "InvalidRequest", "the request body broke off")
        }
    })
}
