use std::error::Error;

use atcr_core::with_causes;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;

use super::super::StorageError;

/// Of an answer that is no error of S3's, so much is repeated.
const REPEATED: usize = 200;

/// What the storage refused or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum S3Failure {
    /// It answered with an error.
    #[error("S3 answered {status}{}{code}: {message} (request {request})", if code.is_empty() { "" } else { " " })]
    Refused { status: u16, code: String, message: String, request: String },
    /// No answer came, or one that is none.
    #[error("{0}")]
    Unreached(String),
}

impl S3Failure {
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreached(_) => "",
        }
    }

    /// Whether what the request named is not there.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            // The answer to a HEAD has no body, and so no code.
            Self::Refused { status: 404, code, .. } => {
                matches!(code.as_str(), "NoSuchKey" | "NotFound" | "")
            }
            Self::Refused { code, .. } => code == "NoSuchKey",
            Self::Unreached(_) => false,
        }
    }

    pub(super) fn doing(self, doing: impl Into<String>) -> StorageError {
        let full = matches!(self.code(), "InsufficientStorage" | "QuotaExceeded" | "XMinioStorageFull")
            || matches!(self, Self::Refused { status: 507, .. });
        if full {
            return StorageError::Full;
        }
        StorageError::Failed { doing: doing.into(), source: self.into() }
    }
}

impl<E> From<SdkError<E>> for S3Failure
where
    E: Error + ProvideErrorMetadata + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let request = error.request_id().unwrap_or("without a name").to_owned();
        match &error {
            SdkError::ServiceError(refused) => Self::Refused {
                status: refused.raw().status().as_u16(),
                code: refused.err().code().unwrap_or_default().to_owned(),
                message: match refused.err().message() {
                    Some(message) => message.to_owned(),
                    None => said(refused.raw()),
                },
                request,
            },
            SdkError::ResponseError(broken) => Self::Refused {
                status: broken.raw().status().as_u16(),
                code: "an answer that broke off".to_owned(),
                message: with_causes(&error),
                request,
            },
            other => Self::Unreached(with_causes(other)),
        }
    }
}

/// An answer without a message: a proxy's page, perhaps, or nothing.
fn said(answer: &HttpResponse) -> String {
    let body = String::from_utf8_lossy(answer.body().bytes().unwrap_or_default());
    let text: String = body.chars().filter(|c| !c.is_control()).take(REPEATED).collect();
    if text.is_empty() { "without a word".to_owned() } else { text }
}
