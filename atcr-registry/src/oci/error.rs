//! The errors that clients see (distribution specification, Error Codes).

use atcr_core::authorizer::Rejection;
use atcr_core::{Source, StoreError, with_causes};
use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
pub(crate) use oci_spec::distribution::ErrorCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::body::BodyError;
use super::path::{Path, PathError};

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    code: Code,
    message: String,
    detail: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Source>,
}

/// A code of the specification's table, or one of the two that every registry adds to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Code {
    Oci(ErrorCode),
    Beyond(&'static str),
}

/// A fault on this side.
const UNKNOWN: Code = Code::Beyond("UNKNOWN");
/// A service behind this one is down.
const UNAVAILABLE: Code = Code::Beyond("UNAVAILABLE");

/// What an operation of a store was about: it decides over the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    Blob,
    Upload,
    Manifest,
    Name,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: Code::Oci(code),
            message: message.into(),
            detail: Map::new(),
            headers: Vec::new(),
            source: None,
        }
    }

    pub(crate) fn bad_request(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        self.headers.extend(value.try_into().ok().map(|value| (name, value)));
        self
    }

    pub(crate) fn has_header(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(present, _)| present == name)
    }

    #[must_use]
    pub(crate) fn detail(mut self, key: &str, value: impl Serialize) -> Self {
        self.detail.insert(key.to_owned(), json!(value));
        self
    }

    fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The error of a store.
    pub(crate) fn store(about: About, error: StoreError) -> Self {
        use ErrorCode::{
            BlobUnknown, BlobUploadInvalid, BlobUploadUnknown, Denied, DigestInvalid, ManifestBlobUnknown,
            ManifestInvalid, ManifestUnknown, NameUnknown, SizeInvalid, TooManyRequests, Unauthorized,
            Unsupported,
        };
        let message = error.to_string();
        let invalid = match about {
            About::Blob | About::Upload => BlobUploadInvalid,
            About::Manifest | About::Name => ManifestInvalid,
        };
        let (status, code) = match &error {
            StoreError::NotFound(_) => {
                let code = match about {
                    About::Blob => BlobUnknown,
                    About::Upload => BlobUploadUnknown,
                    About::Manifest => ManifestUnknown,
                    About::Name => NameUnknown,
                };
                (StatusCode::NOT_FOUND, code)
            }
            StoreError::RepositoryUnknown(_) => (StatusCode::NOT_FOUND, NameUnknown),
            StoreError::UploadUnknown => (StatusCode::NOT_FOUND, BlobUploadUnknown),
            StoreError::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, DigestInvalid),
            StoreError::RangeNotSatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, SizeInvalid),
            StoreError::Missing(_) => (StatusCode::BAD_REQUEST, ManifestBlobUnknown),
            StoreError::Invalid(_) => (StatusCode::BAD_REQUEST, invalid),
            StoreError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, Unauthorized),
            StoreError::Denied(_) | StoreError::QuotaExceeded(_) => (StatusCode::FORBIDDEN, Denied),
            StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, SizeInvalid),
            StoreError::Conflict(_) => (StatusCode::CONFLICT, invalid),
            StoreError::Unsupported(_) => (StatusCode::METHOD_NOT_ALLOWED, Unsupported),
            StoreError::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, TooManyRequests),
            StoreError::BodyInterrupted(source) => return Self::body(about, source),
            StoreError::StorageFull => {
                return Self::beyond(StatusCode::INSUFFICIENT_STORAGE, UNAVAILABLE, message);
            }
            StoreError::Unavailable { .. } => {
                return Self::beyond(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message)
                    .source(Box::new(error));
            }
            _ => return Self::internal(Box::new(error)),
        };
        let answer = Self::new(status, code, message);
        match error {
            StoreError::DigestMismatch { expected, actual } => {
                answer.detail("expected", expected).detail("actual", actual)
            }
            StoreError::RangeNotSatisfiable { size } => {
                answer.detail("size", size).header(CONTENT_RANGE, format!("bytes */{size}"))
            }
            StoreError::Missing(digests) => answer.detail("missing", digests),
            StoreError::TooLarge { limit } => answer.detail("limit", limit),
            StoreError::RateLimited { retry_after: Some(wait), .. } => {
                answer.header(RETRY_AFTER, wait.as_secs().max(1))
            }
            _ => answer,
        }
    }

    /// A body that did not arrive.
    pub(crate) fn body(about: About, error: &Source) -> Self {
        let invalid = match about {
            About::Manifest => ErrorCode::ManifestInvalid,
            _ => ErrorCode::BlobUploadInvalid,
        };
        match error.downcast_ref() {
            Some(BodyError::Idle(_)) => {
                Self::new(StatusCode::REQUEST_TIMEOUT, invalid, format!("{error}; send it again"))
            }
            Some(BodyError::Length) => Self::bad_request(ErrorCode::SizeInvalid, error.to_string()),
            Some(BodyError::TooLarge(limit)) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid, error.to_string())
                    .detail("limit", limit)
            }
            Some(BodyError::Cut(_)) | None => Self::bad_request(
                invalid,
                "the request body was cut off; continue from the last acknowledged byte, or start again",
            ),
        }
    }

    /// A fault on this side, whose cause goes to the log only.
    pub(crate) fn internal(source: Source) -> Self {
        let message = "an internal error occurred; tell the operator of the registry the request id";
        Self::beyond(StatusCode::INTERNAL_SERVER_ERROR, UNKNOWN, message).source(source)
    }

    /// A request that took too long.
    pub(crate) fn timeout() -> Self {
        Self::beyond(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "it took too long; try again in a minute")
    }

    pub(crate) fn path(error: PathError) -> Self {
        match error {
            PathError::Unknown => {
                Self::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, "the registry has no such endpoint")
            }
            PathError::Name(message) => Self::bad_request(ErrorCode::NameInvalid, message),
            PathError::Digest(message) => Self::bad_request(ErrorCode::DigestInvalid, message),
            PathError::Reference(message) => Self::bad_request(ErrorCode::ManifestInvalid, message),
        }
    }

    pub(crate) fn method(path: &Path) -> Self {
        let message = format!("this endpoint has the methods {}", path.methods());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message)
            .header(ALLOW, path.methods())
    }

    pub(crate) fn deletion_disabled() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            "this registry does not delete anything",
        )
    }

    fn beyond(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { code, ..Self::new(status, ErrorCode::Unsupported, message) }
    }

    /// The answer, with the request id in its detail, where clients that hide headers still show it.
    pub(crate) fn into_response(mut self, request_id: &str) -> Response {
        if self.status.is_server_error() {
            let causes = self.source.as_deref().map(|source| format!(": {}", with_causes(source)));
            tracing::error!(status = self.status.as_u16(), "{}{}", self.message, causes.unwrap_or_default());
        }
        self.detail.insert("requestId".to_owned(), request_id.into());
        let error = json!({"code": self.code, "message": self.message, "detail": self.detail});
        let mut response = Response::new(Body::from(json!({ "errors": [error] }).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Challenge { www_authenticate, message } => {
                Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message)
                    .header(WWW_AUTHENTICATE, www_authenticate)
            }
            Rejection::Denied(message) => Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
            Rejection::Unavailable { .. } => {
                Self::beyond(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, rejection.to_string())
                    .source(Box::new(rejection))
            }
            _ => Self::internal(Box::new(rejection)),
        }
    }
}
