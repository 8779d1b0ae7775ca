//! What the pages need of the rest of an AppView.

use async_trait::async_trait;
use atcr_auth::browser::{Browsers, LOGIN};
use atcr_auth::device_flow::DEVICES;
use atcr_auth::web_sign_in::LOGOUT;
use atcr_core::blob_store::{BlobContent, BlobStore};
use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::records::BlobRef;
use atcr_core::syntax::{Did, Nsid, RecordKey};
use atcr_core::{Access, StoreError};
use atcr_registry::atproto::{Change, HoldBlobStore, OwnRecords};
use atcr_registry::index::Index;
use atcr_registry::web::{Content, Person, Visitors};
use axum::body::Bytes;
use axum::http::HeaderMap;
use futures_util::TryStreamExt as _;

/// People who are signed in in their browsers, by OAuth.
#[derive(Debug)]
pub(crate) struct SignedInVisitors {
    pub(crate) browsers: Browsers,
    pub(crate) records: OwnRecords,
}

#[async_trait]
impl Visitors for SignedInVisitors {
    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<Person>, StoreError> {
        let signed_in = self.browsers.signed_in(headers).await.map_err(StoreError::internal)?;
        Ok(signed_in.map(|signed_in| Person {
            did: signed_in.did().clone(),
            handle: signed_in.handle().cloned(),
            form_token: signed_in.form_token(),
        }))
    }

    fn sign_in_path(&self, return_to: &str) -> String {
        match self.browsers.return_to(return_to) {
            Some(return_to) => self.browsers.login_path(&return_to),
            None => LOGIN.to_owned(),
        }
    }

    fn sign_out_path(&self) -> &'static str {
        LOGOUT
    }

    fn devices_path(&self) -> Option<&str> {
        Some(DEVICES)
    }

    async fn edit(
        &self,
        did: &Did,
        collection: &Nsid,
        rkey: &RecordKey,
        change: Change<'_>,
    ) -> Result<(), StoreError> {
        self.records.edit(did, collection, rkey, change).await
    }

    async fn upload(&self, did: &Did, media_type: &str, bytes: Bytes) -> Result<BlobRef, StoreError> {
        self.records.upload(did, media_type, bytes).await
    }

    async fn delete_all(&self, did: &Did, collections: &[Nsid]) -> Result<usize, StoreError> {
        self.records.delete_all(did, collections).await
    }
}

/// Blobs of holds and of PDSs, as anybody gets them.
#[derive(Debug)]
pub(crate) struct PublicContent {
    index: Index,
    blobs: HoldBlobStore,
    records: OwnRecords,
}

impl PublicContent {
    pub(crate) fn new(index: Index, blobs: &HoldBlobStore, records: OwnRecords) -> Self {
        Self { index, blobs: blobs.proxied(), records }
    }

    /// A repository by the name that it has in images.
    async fn named(&self, owner: &Did, name: &RepositoryName) -> Result<RepositoryName, StoreError> {
        if let Ok(whole) = format!("{}/{name}", owner.to_hyphenated()).parse() {
            return Ok(whole);
        }
        // A DID that cannot stand in an image's name has a handle for that.
        let account = self.index.account(owner).await.map_err(StoreError::internal)?;
        let handle = account.and_then(|account| account.handle.clone());
        let whole = handle.and_then(|handle| format!("{handle}/{name}").parse().ok());
        whole.ok_or_else(|| StoreError::RepositoryUnknown(format!("{owner} cannot name an image")))
    }
}

#[async_trait]
impl Content for PublicContent {
    async fn blob(
        &self,
        owner: &Did,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, StoreError> {
        let too_large = || StoreError::TooLarge { limit: limit as u64 };
        let access = Access::anonymous(self.named(owner, repository).await?);
        let BlobContent::Stream { size, mut body, .. } = self.blobs.open(&access, digest, None).await? else {
            return Err(StoreError::NotFound(format!("the blob {digest}")));
        };
        if size > limit as u64 {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(piece) =
            body.try_next().await.map_err(|error| StoreError::unavailable("the hold", error))?
        {
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    async fn picture(&self, owner: &Did, cid: &str, limit: usize) -> Result<Bytes, StoreError> {
        self.records.blob(owner, cid, limit).await
    }
}
