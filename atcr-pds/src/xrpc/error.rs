use std::borrow::Cow;
use std::fmt;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::RepoError;
use crate::blobs::{BlobError, UploadError};
use crate::cbor::CborError;

/// A failed XRPC call (specification, XRPC, "Error Responses"). As a response it is its status and the JSON
/// `{"error": …, "message": …}`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status} {error}: {message}")]
pub struct XrpcError {
    /// HTTP status.
    pub status: StatusCode,
    /// The error's name: one of the method's lexicon, or a general one; never with spaces.
    pub error: Cow<'static, str>,
    /// What happened, for a human.
    pub message: Cow<'static, str>,
    /// Headers to send along (`WWW-Authenticate`, `Retry-After`).
    headers: Option<Box<HeaderMap>>,
}

impl XrpcError {
    /// An error of any status and name.
    pub fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), message: message.into(), headers: None }
    }

    /// 400 with a name.
    pub fn bad(error: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, message)
    }

    /// 400 `InvalidRequest`.
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::bad("InvalidRequest", message)
    }

    /// 401 `AuthMissing`: the method needs an account, and nobody was named.
    pub fn auth_missing() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "AuthMissing", "Authentication Required")
    }

    /// 401 `AuthenticationRequired`: whoever was named may not do this.
    pub fn authentication_required(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "AuthenticationRequired", message)
    }

    /// 400 `InvalidToken`.
    pub fn invalid_token(message: impl Into<Cow<'static, str>>) -> Self {
        Self::bad("InvalidToken", message)
    }

    /// 403 `Forbidden`.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 413, in one of the two names that the reference server has for it: `PayloadTooLarge` for blobs,
    /// `PayloadTooLargeError` for JSON bodies.
    pub(crate) fn too_large(error: &'static str) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error, "request entity too large")
    }

    /// 500 `InternalServerError`. The cause goes to the log, not to the caller.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(error = %cause, "XRPC call failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
    }

    /// The error with one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }
}

impl IntoResponse for XrpcError {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.error, "message": self.message}));
        (self.status, self.headers.map(|headers| *headers).unwrap_or_default(), body).into_response()
    }
}

impl From<RepoError> for XrpcError {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::RepoNotFound(did) => {
                Self::bad("RepoNotFound", format!("Could not find repo for DID: {did}"))
            }
            RepoError::Inactive { status, .. } => Self::invalid_request(format!("Account is {status}")),
            RepoError::RecordSwap { actual, .. } => {
                let actual = actual.map_or_else(|| "null".to_owned(), |cid| cid.to_string());
                Self::bad("InvalidSwap", format!("Record was at {actual}"))
            }
            RepoError::CommitSwap { actual } => Self::bad("InvalidSwap", format!("Commit was at {actual}")),
            RepoError::TypeMismatch { path, found } => Self::invalid_request(format!(
                "Invalid $type: expected {}, got {found}",
                path.collection_str()
            )),
            RepoError::TooManyWrites(_) => {
                Self::invalid_request(format!("Too many writes. Max: {}", crate::repo::MAX_WRITES))
            }
            RepoError::BlobNotFound(cid) => Self::bad("BlobNotFound", format!("Could not find blob: {cid}")),
            RepoError::BlobMimeType { given, actual, .. } => Self::bad(
                "InvalidMimeType",
                format!("Referenced Mimetype does not match stored blob. Expected: {actual}, Got: {given}"),
            ),
            RepoError::BlobSize { given, actual, .. } => Self::bad(
                "InvalidSize",
                format!("Referenced Size does not match stored blob. Expected: {actual}, Got: {given}"),
            ),
            RepoError::BlocksNotFound(cids) => {
                let cids: Vec<String> = cids.iter().map(ToString::to_string).collect();
                Self::invalid_request(format!("Could not find cids: {}", cids.join(",")))
            }
            error @ (RepoError::InvalidPath(_)
            | RepoError::InvalidRecord { .. }
            | RepoError::RecordTooLarge { .. }
            | RepoError::CommitTooLarge(_)) => Self::invalid_request(error.to_string()),
            // A create over an existing record and an update or delete of a missing one: the reference server has
            // no answer of its own for these.
            error @ (RepoError::RecordExists(_) | RepoError::RecordNotFound(_)) => {
                tracing::debug!(%error, "write refused");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
            }
            RepoError::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Try again later")
            }
            error => Self::internal(error),
        }
    }
}

impl From<UploadError> for XrpcError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => Self::too_large("PayloadTooLarge"),
            UploadError::Repo(error) => error.into(),
            UploadError::Storage(error) => Self::internal(error),
            error @ (UploadError::Body(_) | UploadError::Gzip) => Self::invalid_request(error.to_string()),
        }
    }
}

impl From<BlobError> for XrpcError {
    fn from(error: BlobError) -> Self {
        Self::internal(error)
    }
}

impl From<CborError> for XrpcError {
    fn from(error: CborError) -> Self {
        Self::internal(error)
    }
}
