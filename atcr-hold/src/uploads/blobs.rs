use std::time::Duration;

use atcr_core::blob_store::ByteStream;
use atcr_core::oci::{ByteRange, Digest};
use url::Url;

use super::{UploadError, Uploads};
use crate::storage::ObjectKey;

/// A blob that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Uploads {
    /// Where the bytes of a blob are: where the database says, else where distribution's layout has them, so that an
    /// existing directory or bucket is read as it is.
    async fn locate(&self, digest: &Digest) -> Result<Option<(ObjectKey, u64)>, UploadError> {
        if let Some((key, size)) = self.ledger.blob(digest).await? {
            let stored = self.storage.stat(&key).await?;
            if stored == Some(size) {
                return Ok(Some((key, size)));
            }
            tracing::error!(%digest, %key, size, ?stored, "a blob is not in the storage as it was put there");
            return Ok(None);
        }
        let key = ObjectKey::of_blob(digest);
        Ok(self.storage.stat(&key).await?.map(|size| (key, size)))
    }

    /// Looks for a blob.
    pub(crate) async fn find(&self, digest: &Digest) -> Result<Option<Blob>, UploadError> {
        Ok(self.locate(digest).await?.map(|(_, size)| Blob { digest: *digest, size }))
    }

    /// These bytes of a blob, which must lie inside it; `None` when it is gone.
    pub(crate) async fn read(
        &self,
        digest: &Digest,
        range: ByteRange,
    ) -> Result<Option<ByteStream>, UploadError> {
        match self.locate(digest).await? {
            Some((key, _)) => Ok(Some(self.storage.read(&key, range).await?)),
            None => Ok(None),
        }
    }

    /// A URL of the storage for the bytes of a blob; `None` when they have to go through the hold.
    pub(crate) async fn address(&self, digest: &Digest, life: Duration) -> Result<Option<Url>, UploadError> {
        match self.locate(digest).await? {
            Some((key, _)) => Ok(self.storage.presign_get(&key, life).await?),
            None => Ok(None),
        }
    }
}
