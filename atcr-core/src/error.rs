use std::fmt::Write as _;
use std::time::Duration;

use crate::oci::Digest;

/// The error another layer reported, kept for the log.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error and its causes in one line, `what: why: why that`, where there is no place for a chain of them.
#[must_use]
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Nothing that is written to a string fails.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// Why a [`BlobStore`](crate::BlobStore) or a [`ManifestStore`](crate::ManifestStore) could not do what it was asked.
///
/// There is a variant for each thing that a caller does something different about; the messages are shown to the
/// person at the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such blob, manifest or tag here.
    #[error("{0} is not in this repository")]
    NotFound(String),
    /// There is no such repository, or nobody has the name it stands under.
    #[error("{0}")]
    RepositoryUnknown(String),
    /// The upload session has ended, was never begun, or belongs to another store.
    #[error("the upload session is unknown: it has ended or expired; start the upload again")]
    UploadUnknown,
    /// The content is not what the client said it is.
    #[error("the content does not have the digest {expected}{}: it was changed or cut on the way; upload it again", instead(.actual.as_deref()))]
    DigestMismatch {
        /// What the client said.
        expected: Box<Digest>,
        /// What it is, where the store that found out says so.
        actual: Option<Box<Digest>>,
    },
    /// The content has none of the bytes that were asked for.
    #[error("the range lies outside the content, which has {size} bytes")]
    RangeNotSatisfiable {
        /// The size of the content in bytes.
        size: u64,
    },
    /// The manifest names blobs or manifests that are not in the repository.
    #[error("the manifest names content that is not in this repository: {}; push it first", list(.0))]
    Missing(Vec<Digest>),
    /// The content is not acceptable; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The caller must say who they are, or do it anew.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller may not do this; the text says what is lacking and who can grant it.
    #[error("{0}")]
    Denied(String),
    /// The caller's allowance is used up; the text names used and allowed bytes.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The content is larger than what is accepted.
    #[error("the content is larger than the {limit} bytes that are accepted")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Somebody else changed the same thing at the same time.
    #[error("{0} was changed by somebody else at the same time; look at what is there now and try again")]
    Conflict(String),
    /// This store does not do this at all.
    #[error("{0}")]
    Unsupported(String),
    /// Too many requests; here, or at a service behind.
    #[error("too many requests: {message}")]
    RateLimited {
        /// Who limits, and what to do.
        message: String,
        /// How long to wait, where it is known.
        retry_after: Option<Duration>,
    },
    /// The client's body ended before it was complete. What was acknowledged before stays.
    #[error("the request body was cut off; continue from the last acknowledged byte, or start again")]
    BodyInterrupted(#[source] Source),
    /// There is no room left where the content would go.
    #[error("there is no room left in the storage; its operator must free some")]
    StorageFull,
    /// A service that this one needs cannot be reached or does not answer as it should. Trying again may help.
    #[error("{what} is not available at the moment; try again in a minute")]
    Unavailable {
        /// Which service, by a name that means something to the caller.
        what: String,
        /// What happened.
        #[source]
        source: Source,
    },
    /// A fault on this side; the details are in the log.
    #[error("an internal error occurred")]
    Internal(#[source] Source),
}

impl StoreError {
    /// An [`StoreError::Unavailable`] by its parts.
    pub fn unavailable(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into() }
    }

    /// An [`StoreError::Internal`] from whatever happened.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::StorageFull,
            _ => Self::internal(error),
        }
    }
}

fn instead(actual: Option<&Digest>) -> String {
    actual.map(|digest| format!(" but {digest}")).unwrap_or_default()
}

fn list(digests: &[Digest]) -> String {
    const SHOWN: usize = 5;
    let mut text = digests.iter().take(SHOWN).map(Digest::to_string).collect::<Vec<_>>().join(", ");
    if digests.len() > SHOWN {
        let _ = write!(text, " and {} more", digests.len() - SHOWN);
    }
    text
}
