use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::StoreError;
use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::records::BlobRef;
use atcr_core::syntax::{Did, Handle, Nsid, RecordKey};
use bytes::Bytes;
use http::HeaderMap;

use crate::atproto::Change;

/// Somebody who is signed in in the browser that sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Their account.
    pub did: Did,
    /// Its handle, where it has one; for display only.
    pub handle: Option<Handle>,
    /// What every form on a page for this browser carries: a secret of this browser's session, which pages of other
    /// sites cannot know.
    pub form_token: String,
}

impl Person {
    /// How they are called on pages.
    pub fn name(&self) -> String {
        self.handle.as_ref().map_or_else(|| self.did.to_string(), ToString::to_string)
    }
}

/// Who looks at the pages, and what is done in their name: what [`WebUi`](super::WebUi) needs of the program around it
/// for people to sign in.
///
/// Contract: who is signed in is told from a cookie that no script and no other site's form can use (`HttpOnly`,
/// `SameSite=Lax`); whatever was written is in the index before the call returns.
#[async_trait]
pub trait Visitors: Debug + Send + Sync + 'static {
    /// Who is signed in in the browser that sent these headers.
    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<Person>, StoreError>;

    /// Where a browser signs in and then comes back to `return_to`. What is not a path of this registry must be ignored.
    fn sign_in_path(&self, return_to: &str) -> String;

    /// Where a form with the field `csrf` signs the browser out, with `here` set to `on`.
    fn sign_out_path(&self) -> &str;

    /// The page with the devices that may push to an account, if there is one.
    fn devices_path(&self) -> Option<&str> {
        None
    }

    /// Writes, changes or removes a record in somebody's own repo ([`OwnRecords::edit`](crate::atproto::OwnRecords::edit)).
    async fn edit(
        &self,
        did: &Did,
        collection: &Nsid,
        rkey: &RecordKey,
        change: Change<'_>,
    ) -> Result<(), StoreError>;

    /// Uploads a blob to somebody's own PDS.
    async fn upload(&self, did: &Did, media_type: &str, bytes: Bytes) -> Result<BlobRef, StoreError>;

    /// Removes all records of somebody in these collections; says how many.
    async fn delete_all(&self, did: &Did, collections: &[Nsid]) -> Result<usize, StoreError>;
}

/// Bytes that pages show and the index does not have. They are public: nobody's name is needed for them.
#[async_trait]
pub trait Content: Debug + Send + Sync + 'static {
    /// A blob of a repository, from a hold. One of more than `limit` bytes is an error. The caller checks the digest.
    async fn blob(
        &self,
        owner: &Did,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, StoreError>;

    /// A blob of an account, from its PDS. One of more than `limit` bytes is an error.
    async fn picture(&self, owner: &Did, cid: &str, limit: usize) -> Result<Bytes, StoreError>;
}
