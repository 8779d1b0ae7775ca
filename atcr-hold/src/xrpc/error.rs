use atcr_core::methods::error_name;
use atcr_pds::xrpc::XrpcError;
use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::HoldError;
use crate::signed_url::BadSignature;
use crate::uploads::UploadError;

impl From<UploadError> for XrpcError {
    fn from(error: UploadError) -> Self {
        let (status, name) = match &error {
            UploadError::UnknownUpload => (StatusCode::NOT_FOUND, error_name::INVALID_UPLOAD_ID),
            UploadError::OtherCompletion(_) => (StatusCode::CONFLICT, error_name::INVALID_UPLOAD_ID),
            UploadError::PartNumber { .. } => (StatusCode::BAD_REQUEST, error_name::INVALID_PART_NUMBER),
            UploadError::MissingPart(_)
            | UploadError::MissingBeginning { .. }
            | UploadError::RepeatedPart => (StatusCode::BAD_REQUEST, error_name::MISSING_PARTS),
            UploadError::DigestMismatch { .. } => (StatusCode::BAD_REQUEST, error_name::INVALID_DIGEST),
            UploadError::Quarantined { .. } => (StatusCode::GONE, error_name::BLOB_QUARANTINED),
            UploadError::QuotaExceeded { .. } => (StatusCode::FORBIDDEN, error_name::QUOTA_EXCEEDED),
            UploadError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BlobTooLarge"),
            UploadError::PartSize { .. } | UploadError::Interrupted(_) => {
                (StatusCode::BAD_REQUEST, error_name::UPLOAD_FAILED)
            }
            UploadError::Silent { .. } => (StatusCode::REQUEST_TIMEOUT, error_name::UPLOAD_FAILED),
            UploadError::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "StorageFull"),
            UploadError::Storage(source) => {
                tracing::error!(%source, "the storage failed");
                let error =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "StorageUnavailable", error.to_string());
                return error.with_header(RETRY_AFTER, 30.into());
            }
            UploadError::Internal(source) => return Self::internal(source),
        };
        Self::new(status, name, error.to_string())
    }
}

impl From<HoldError> for XrpcError {
    fn from(error: HoldError) -> Self {
        Self::internal(error)
    }
}

impl From<BadSignature> for XrpcError {
    fn from(error: BadSignature) -> Self {
        let name = match error {
            BadSignature::Expired => "ExpiredUrl",
            BadSignature::Wrong => "InvalidSignature",
        };
        Self::new(StatusCode::FORBIDDEN, name, error.to_string())
    }
}
