use std::path::PathBuf;
use std::sync::Arc;

use atcr_core::crypto::PublicKey;
use atcr_core::syntax::Did;
use atcr_pds::plc::PlcDirectory;

/// How a hold is named. It is chosen once: a hold with another DID is another hold.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum IdentityMethod {
    /// did:web, made of the public URL, which must never change then.
    #[default]
    Web,
    /// did:plc, kept in a directory; the public URL and the keys may change.
    Plc(PlcIdentity),
}

/// The did:plc of a hold.
#[derive(Clone)]
#[non_exhaustive]
pub struct PlcIdentity {
    /// Where the DID is registered.
    pub directory: Arc<dyn PlcDirectory>,
    /// A DID that exists already and is to be the hold's. Default: the one in `did.txt` in the data directory, or
    /// else a new one.
    pub did: Option<Did>,
    /// The file with the key that signs operations. It is made together with a new DID, and may be taken away
    /// afterwards until the document has to change. Default: `rotation.key` in the data directory.
    pub rotation_key: Option<PathBuf>,
    /// A key of the operator's that stands before the hold's own rotation key, and so can take the DID back from it
    /// for 72 hours. Default: none.
    pub recovery_key: Option<PublicKey>,
}

impl PlcIdentity {
    /// A did:plc of the hold's own in this directory.
    pub fn new(directory: Arc<dyn PlcDirectory>) -> Self {
        Self { directory, did: None, rotation_key: None, recovery_key: None }
    }
}

impl std::fmt::Debug for PlcIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { did, rotation_key, recovery_key, .. } = self;
        f.debug_struct("PlcIdentity")
            .field("did", did)
            .field("rotation_key", rotation_key)
            .field("recovery_key", recovery_key)
            .finish_non_exhaustive()
    }
}
