use std::path::PathBuf;

use atcr_core::syntax::Did;
use atcr_pds::plc::PlcError;
use serde_json::Value;

use super::Difference;

/// Why a hold cannot be who it is to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The directory did not answer, or not in time.
    #[error("the PLC directory did not do its part for {did}: {source}; nothing is lost, try again later")]
    Unavailable {
        /// Whose entry was asked for.
        did: Did,
        /// What happened.
        source: PlcError,
    },
    /// The directory has no such DID.
    #[error(
        "the PLC directory does not know {did}; is it the right directory, and is the DID spelt rightly?"
    )]
    NotRegistered {
        /// The DID.
        did: Did,
    },
    /// The DID was given up for good.
    #[error("{did} was given up with a tombstone; the hold needs another identity")]
    Tombstoned {
        /// The DID.
        did: Did,
    },
    /// What the directory tells does not follow from signatures.
    #[error(
        "what the PLC directory tells of {did} is not true, so it is not followed: {source}; is it the right directory?"
    )]
    Untrue {
        /// The DID.
        did: Did,
        /// What is wrong.
        source: PlcError,
    },
    /// The directory did not take an operation.
    #[error("the PLC directory refused an operation for {did}: {source}")]
    Refused {
        /// The DID.
        did: Did,
        /// Why.
        source: PlcError,
    },
    /// The first operation of a new DID is not taken.
    #[error(
        "the PLC directory refused the new identity {did}: {source}; mend the configuration, remove {} and start again", path.display()
    )]
    GenesisRefused {
        /// The DID that it would have made.
        did: Did,
        /// Where the operation is.
        path: PathBuf,
        /// Why.
        source: PlcError,
    },
    /// The document has to change, and nobody here can sign that.
    #[error(
        "the document of {did} does not agree with this hold ({}), and {reason}. Whoever has one of its rotation \
         keys signs and submits this operation, then the hold starts:\n{operation:#}",
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    NeedsSignature {
        /// The DID.
        did: Did,
        /// What has to change.
        differences: Vec<Difference>,
        /// Why the hold does not sign itself.
        reason: String,
        /// The operation without its `sig`.
        operation: Value,
    },
    /// A key was replaced, and the directory cannot be told now.
    #[error(
        "the signing key was replaced, and its document cannot be brought up to date now, so that nobody could verify \
         what the hold says; start it again when this is over, or put the old key back: {source}"
    )]
    KeyNotPublished {
        /// Why not.
        source: Box<IdentityError>,
    },
    /// The configured DID is not the one of the data directory.
    #[error(
        "{} says that this is the data of {stored}, but {configured} is configured; set that back, or choose another data directory", path.display()
    )]
    OtherDid {
        /// Where the other DID stands.
        path: PathBuf,
        /// The DID there.
        stored: Did,
        /// The configured one.
        configured: Did,
    },
    /// The DID has another method than the configuration asks for.
    #[error("{did} is no did:plc, so no PLC directory has it")]
    NotPlc {
        /// The DID.
        did: Did,
    },
    /// There is no identity yet.
    #[error("the hold has no identity yet; it is made at the first start")]
    None,
    /// A file of the identity has something else in it.
    #[error("{} does not hold {what}; restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// An update would leave the DID without rotation keys.
    #[error("{did} would have no rotation key left, and could never change again")]
    NoRotationKey {
        /// The DID.
        did: Did,
    },
}

impl IdentityError {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
