use atcr_core::Source;
use atcr_core::oci::Digest;

use super::body::BodyFailure;
use super::pending::Quarantined;
use crate::storage::{PartNumber, StorageError};

/// Why an upload cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(
        "there is no such upload session of yours: it has ended, expired, or belongs to another account; begin a \
         new one with initiateUpload"
    )]
    UnknownUpload,
    #[error("this upload session is being completed as {0}; complete it as that, or begin a new one")]
    OtherCompletion(Digest),
    #[error("{number} is not a part number that this hold takes: parts are numbered from 1 to {most}")]
    PartNumber { number: u64, most: u32 },
    #[error("part {0} is missing: send it, then complete again; parts are numbered 1, 2, 3 without a gap")]
    MissingPart(PartNumber),
    #[error(
        "the hold does not keep the {offset} bytes of part {number} that others are to be added to: send the part from \
         its beginning"
    )]
    MissingBeginning { number: PartNumber, offset: u64 },
    #[error("a part of {size} bytes is not one that this hold's storage takes: {limit}")]
    PartSize { size: u64, limit: String },
    #[error("a part is named twice; parts are numbered 1, 2, 3 without a gap")]
    RepeatedPart,
    #[error(
        "the uploaded bytes have the digest {actual}, not {expected}: they were changed or cut on the way and have \
         been thrown away; upload the blob again"
    )]
    DigestMismatch { expected: Box<Digest>, actual: Box<Digest> },
    #[error(
        "the bytes that you uploaded as {expected} are not that: {actual}; nobody gets them, and they will be \
         removed; upload the blob again"
    )]
    Quarantined { expected: Box<Digest>, actual: String },
    #[error(
        "your quota at this hold is exceeded: you store {used} of {allowed} bytes, and this needs {more} more; \
         delete something, or ask the hold's owner for a larger tier"
    )]
    QuotaExceeded { used: u64, more: u64, allowed: u64 },
    #[error("the blob is larger than the {limit} bytes that this hold takes")]
    TooLarge { limit: u64 },
    #[error("the request body was cut off; nothing of this part counts, send it again")]
    Interrupted(#[source] Source),
    #[error("no byte came for {seconds} seconds; nothing of this part counts, send it again")]
    Silent { seconds: u64 },
    #[error(
        "there is no room left in the hold's storage; its operator must free some, then this upload can go on"
    )]
    StorageFull,
    #[error("the hold's storage is not available at the moment; try again in a minute")]
    Storage(#[source] StorageError),
    #[error("an internal error occurred")]
    Internal(#[source] Source),
}

impl UploadError {
    pub(super) fn quarantined(found: &Quarantined) -> Self {
        let actual = found.actual.as_ref();
        Self::Quarantined {
            expected: Box::new(found.digest),
            actual: actual.map_or_else(
                || "they were lost before they could be read".to_owned(),
                |actual| format!("their digest is {actual}"),
            ),
        }
    }
}

/// SQLITE_FULL.
const DATABASE_FULL: &str = "13";

impl From<sqlx::Error> for UploadError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.as_deref() == Some(DATABASE_FULL) { Self::StorageFull } else { Self::Internal(error.into()) }
    }
}

impl From<StorageError> for UploadError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::UploadUnknown(_) => Self::UnknownUpload,
            StorageError::PartUnknown { number, .. } => Self::MissingPart(number),
            StorageError::PartSize { size, limit } => Self::PartSize { size, limit },
            StorageError::Body(source) => match source.downcast::<BodyFailure>() {
                Ok(failure) => match *failure {
                    BodyFailure::TooLarge { limit } => Self::TooLarge { limit },
                    BodyFailure::PartTooLarge { size, limit } => {
                        Self::PartSize { size, limit: format!("at most {limit} when it is sent in pieces") }
                    }
                    BodyFailure::Quota { used, more, allowed } => Self::QuotaExceeded { used, more, allowed },
                    BodyFailure::Silent { seconds } => Self::Silent { seconds },
                },
                Err(source) => Self::Interrupted(source),
            },
            StorageError::Full => Self::StorageFull,
            error => Self::Storage(error),
        }
    }
}
