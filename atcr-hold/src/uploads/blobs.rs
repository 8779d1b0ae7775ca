use std::time::Duration;

use atcr_core::blob_store::ByteStream;
use atcr_core::oci::{ByteRange, Digest};
use atcr_core::syntax::Did;
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

/// A blob as somebody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The blob.
    pub(crate) blob: Blob,
    /// Whether its bytes are known to be right. If not, it is there for its uploader alone.
    pub(crate) verified: bool,
    key: ObjectKey,
}

/// Whether the storage is asked for a blob that the database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is: whoever wants to know whether a blob must be sent again learns the truth.
    Storage,
    /// It is not, where clients are sent to the storage, which tells them. What the database has of the blob may be a
    /// second old, if another process changed it.
    Database,
}

impl Uploads {
    /// Where the bytes of a blob are: where the database says, else where distribution's layout has them, so that an
    /// existing directory or bucket is read as it is.
    async fn locate(&self, digest: &Digest, trust: Trust) -> Result<Option<(ObjectKey, u64)>, UploadError> {
        if trust == Trust::Storage || !self.storage.capabilities().presign {
            return self.locate_surely(digest).await;
        }
        let now = self.clock.unix();
        if let Some(place) = self.places.place(digest, now) {
            return Ok(Some(place));
        }
        let look = self.places.look(now);
        let place = match self.ledger.blob(digest).await? {
            Some(place) => Some(place),
            None => self.locate_unlisted(digest).await?,
        };
        if let Some(place) = &place {
            self.places.found(look, digest, place);
        }
        Ok(place)
    }

    async fn locate_surely(&self, digest: &Digest) -> Result<Option<(ObjectKey, u64)>, UploadError> {
        if let Some((key, size)) = self.ledger.blob(digest).await? {
            let stored = self.storage.stat(&key).await?;
            if stored == Some(size) {
                return Ok(Some((key, size)));
            }
            tracing::error!(%digest, %key, size, ?stored, "a blob is not in the storage as it was put there");
            return Ok(None);
        }
        self.locate_unlisted(digest).await
    }

    /// Where a blob is that was missing a moment ago, and that nobody waits for now: between the two looks it may have
    /// been verified.
    async fn locate_again(&self, digest: &Digest) -> Result<Option<(ObjectKey, u64)>, UploadError> {
        match self.ledger.blob(digest).await? {
            Some(_) => self.locate_surely(digest).await,
            None => Ok(None),
        }
    }

    /// Where a blob is that the database does not have.
    async fn locate_unlisted(&self, digest: &Digest) -> Result<Option<(ObjectKey, u64)>, UploadError> {
        let key = ObjectKey::of_blob(digest);
        let Some(size) = self.storage.stat(&key).await? else { return Ok(None) };
        Ok(if self.ledger.is_quarantined(&key).await? { None } else { Some((key, size)) })
    }

    /// Looks for a blob that everybody sees.
    pub(crate) async fn find(&self, digest: &Digest) -> Result<Option<Blob>, UploadError> {
        Ok(self.locate_surely(digest).await?.map(|(_, size)| Blob { digest: *digest, size }))
    }

    /// Looks for a blob as an account sees it: one that it uploaded is there for it before it is verified.
    ///
    /// # Errors
    /// [`UploadError::Quarantined`] when what it uploaded was found to be something else.
    pub(crate) async fn find_for(
        &self,
        digest: &Digest,
        caller: Option<&Did>,
        trust: Trust,
    ) -> Result<Option<Found>, UploadError> {
        let found = |(key, size), verified| Found { blob: Blob { digest: *digest, size }, verified, key };
        if let Some(place) = self.locate(digest, trust).await? {
            return Ok(Some(found(place, true)));
        }
        if let Some(caller) = caller
            && let Some(place) = self.ledger.pending_of(digest, caller).await?
        {
            return Ok(Some(found(place, false)));
        }
        if let Some(place) = self.locate_again(digest).await? {
            return Ok(Some(found(place, true)));
        }
        let Some(caller) = caller else { return Ok(None) };
        match self.ledger.quarantined(digest, caller).await? {
            Some(quarantined) => Err(UploadError::quarantined(&quarantined)),
            None => Ok(None),
        }
    }

    /// Looks again for a blob that was missing a moment ago and about which there is no dispute now.
    pub(crate) async fn find_verified(&self, digest: &Digest) -> Result<Option<Found>, UploadError> {
        let place = self.locate_again(digest).await?;
        Ok(place.map(|(key, size)| Found { blob: Blob { digest: *digest, size }, verified: true, key }))
    }

    /// Whether it matters to somebody who asks for a blob that nobody else sees which account they are.
    pub(crate) async fn is_disputed(&self, digest: &Digest) -> Result<bool, UploadError> {
        Ok(self.ledger.is_disputed(digest).await?)
    }

    /// These bytes of a blob, which must lie inside it.
    pub(crate) async fn read(&self, found: &Found, range: ByteRange) -> Result<ByteStream, UploadError> {
        Ok(self.storage.read(&found.key, range).await?)
    }

    /// A URL of the storage for the bytes of a blob; `None` when they have to go through the hold.
    pub(crate) async fn address(&self, found: &Found, life: Duration) -> Result<Option<Url>, UploadError> {
        Ok(self.storage.presign_get(&found.key, life).await?)
    }
}
