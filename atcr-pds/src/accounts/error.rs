use atcr_core::crypto;
use atcr_core::syntax::{Did, Handle};
use http::StatusCode;

use crate::blobs::BlobError;
use crate::plc::PlcError;
use crate::xrpc::XrpcError;
use crate::{RepoError, StoreError};

/// What can go wrong with accounts and sessions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The handle breaks a rule of this server.
    #[error("{0}")]
    InvalidHandle(&'static str),
    /// The handle is not under a domain of this server.
    #[error("Not a supported handle domain")]
    UnsupportedDomain,
    /// The handle belongs to somebody.
    #[error("Handle already taken: {0}")]
    HandleNotAvailable(Handle),
    /// The e-mail address belongs to somebody.
    #[error("Email already taken: {0}")]
    EmailNotAvailable(String),
    /// What was sent for an account is incomplete or not supported.
    #[error("{0}")]
    Invalid(&'static str),
    /// The password is empty or too long.
    #[error("Invalid password length.")]
    InvalidPassword,
    /// Nobody has that name and password.
    #[error("Invalid identifier or password")]
    WrongPassword,
    /// There is no account of that DID.
    #[error("Account not found: {0}")]
    NotFound(Did),
    /// A token that this server did not give out, or not for this.
    #[error("{0}")]
    InvalidToken(&'static str),
    /// A token that has had its time, or was used up.
    #[error("{0}")]
    ExpiredToken(&'static str),
    /// The expiry asked for a service token is not allowed.
    #[error("{0}")]
    BadExpiration(&'static str),
    /// An app password of that name exists.
    #[error("App password with that name already exists")]
    AppPasswordExists,
    /// The public URL cannot be the host of a server.
    #[error("the public URL {0} has no host name that a did:web can carry")]
    PublicUrl(url::Url),
    /// The PLC directory refused or failed.
    #[error(transparent)]
    Plc(#[from] PlcError),
    /// The repo refused or failed.
    #[error(transparent)]
    Repo(Box<RepoError>),
    /// The store of repos failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The place of blobs failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The accounts database failed.
    #[error("the accounts database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] crypto::KeyError),
    /// The data directory could not be used.
    #[error("the data directory {path} could not be used: {cause}")]
    DataDir {
        /// Which.
        path: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A computation failed that has no reason to.
    #[error("{0}")]
    Internal(String),
}

impl From<RepoError> for AccountError {
    fn from(error: RepoError) -> Self {
        Self::Repo(Box::new(error))
    }
}

impl From<AccountError> for XrpcError {
    fn from(error: AccountError) -> Self {
        let error = match error {
            AccountError::Repo(error) => return Self::from(*error),
            error => error,
        };
        let name = match &error {
            AccountError::InvalidHandle(_) => "InvalidHandle",
            AccountError::UnsupportedDomain => "UnsupportedDomain",
            AccountError::HandleNotAvailable(_) => "HandleNotAvailable",
            AccountError::InvalidPassword => "InvalidPassword",
            AccountError::InvalidToken(_) => "InvalidToken",
            AccountError::ExpiredToken(_) => "ExpiredToken",
            AccountError::BadExpiration(_) => "BadExpiration",
            AccountError::Invalid(_)
            | AccountError::EmailNotAvailable(_)
            | AccountError::AppPasswordExists => "InvalidRequest",
            AccountError::WrongPassword => return Self::authentication_required(error.to_string()),
            AccountError::NotFound(_) => {
                return Self::new(StatusCode::UNAUTHORIZED, "AccountNotFound", error.to_string());
            }
            _ => return Self::internal(error),
        };
        Self::bad(name, error.to_string())
    }
}
