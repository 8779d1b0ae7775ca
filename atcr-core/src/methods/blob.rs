use serde::{Deserialize, Serialize};

use super::{Nothing, method};
use crate::oci::{Digest, RepositoryName};

method! {
    /// Removes a blob from one of the caller's repositories. Others keep it; its bytes go when nobody has it any
    /// more.
    ///
    /// An addition of atcr: holds of before do not know it, and remove blobs only by their own counting.
    DeleteBlob, "io.atcr.hold.deleteBlob", Procedure,
    (Nothing, DeleteBlobInput) -> Nothing, [INVALID_DIGEST, BLOB_NOT_FOUND]
}

/// Input of [`DeleteBlob`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBlobInput {
    /// The blob.
    pub digest: Digest,
    /// The caller's repository, without its owner.
    pub repository: RepositoryName,
}
