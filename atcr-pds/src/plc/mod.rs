//! did:plc: operations, logs and the documents they amount to (DID PLC method specification 0.3).
//!
//! [`PlcState::genesis`] makes a DID, [`PlcState::follow`] changes what it says, [`validate_log`] judges somebody
//! else's history. [`PlcDirectory`] is the seam to the directory that keeps the logs.

mod document;
mod http;
mod log;
mod operation;

#[cfg(feature = "accounts")]
pub mod directory;

pub use document::did_document;
pub use http::HttpDirectory;
pub use log::{LogEntry, RECOVERY_WINDOW, check_next, validate_log};
pub use operation::{LegacyCreate, Operation, PlcService, PlcState, Tombstone, Update};

use async_trait::async_trait;
use atcr_core::syntax::Did;

/// A directory of did:plc logs.
#[async_trait]
pub trait PlcDirectory: Send + Sync + 'static {
    /// Hands in a signed operation. It is in effect once this returns.
    async fn submit(&self, did: &Did, operation: &Operation) -> Result<(), PlcError>;

    /// The whole log of a DID, nullified operations included, oldest first, as the directory tells it:
    /// [`validate_log`] judges it.
    async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError>;

    /// The newest operation in effect, which the next one names as its `prev`.
    async fn last(&self, did: &Did) -> Result<Operation, PlcError>;

    /// The DID document as the directory renders it.
    async fn document(&self, did: &Did) -> Result<serde_json::Value, PlcError>;
}

/// Why an operation, a log or a look-up failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlcError {
    /// `prev` does not name an operation that can be followed.
    #[error("Operations not correctly ordered")]
    Misordered,
    /// No rotation key that may sign here made the signature.
    #[error("Invalid signature on op")]
    InvalidSignature,
    /// A fork to recover control came more than 72 hours after the operation it would nullify.
    #[error("Recovery operation occurred outside of the allowed 72 hr recovery window")]
    LateRecovery,
    /// The DID is not the hash of its first operation.
    #[error("Hash of genesis operation does not match DID identifier: {expected}")]
    GenesisHash {
        /// The DID that the operation makes.
        expected: Did,
    },
    /// The operation breaks a rule on its fields.
    #[error("{0}")]
    Improper(String),
    /// An audit log carries a flag or CID that does not follow from its operations.
    #[error("the audit log contradicts its operations at {cid}: {what}")]
    Contradiction {
        /// The entry.
        cid: String,
        /// What differs.
        what: &'static str,
    },
    /// The directory does not know the DID.
    #[error("DID not registered: {0}")]
    NotRegistered(Did),
    /// The DID was given up with a tombstone.
    #[error("DID not available: {0}")]
    Tombstoned(Did),
    /// The directory could not be reached or answered with something else.
    #[error("the PLC directory failed: {0}")]
    Unavailable(String),
    /// The directory's own storage failed.
    #[cfg(feature = "accounts")]
    #[error("the PLC directory's database failed: {0}")]
    Database(#[from] sqlx::Error),
}
