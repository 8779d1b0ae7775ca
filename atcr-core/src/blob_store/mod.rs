//! The store of a registry's blobs: the trait, and its implementations in memory and on a filesystem.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
#[cfg(unix)]
mod filesystem;
mod memory;

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use url::Url;

#[cfg(unix)]
pub use filesystem::FilesystemBlobStore;
pub use memory::MemoryBlobStore;

use crate::access::Access;
use crate::error::{Source, StoreError};
use crate::oci::{Algorithm, ByteRange, Digest, RangeRequest, RepositoryName};

/// A body in flight: pieces of any size, ended early by an error when the sender went away.
pub type ByteStream = BoxStream<'static, Result<Bytes, Source>>;

/// A [`ByteStream`] of bytes that are already here.
pub fn byte_stream(bytes: impl Into<Bytes>) -> ByteStream {
    let bytes = bytes.into();
    Box::pin(futures_util::stream::once(std::future::ready(Ok(bytes))))
}

/// Where a registry keeps blobs.
///
/// An upload is a value, not an object: [`BlobStore::begin`] gives an [`UploadState`], each
/// [`BlobStore::append`] takes one and gives the next, [`BlobStore::finish`] takes the last. The state travels with the
/// client, so any replica that shares the store's storage can serve the next step, and a restart loses nothing.
///
/// Contract, checked by the suite in `contract`:
/// - a blob is visible whole or not at all, and only after `finish` answered with success;
/// - what `finish` acknowledged is durable (as far as the implementation's storage is) and has the digest it was
///   finished with;
/// - an `append` that failed leaves the state it was given usable, with the same offset;
/// - memory use does not depend on the size of a blob;
/// - a future that is dropped leaves no blob half visible.
#[async_trait]
pub trait BlobStore: Debug + Send + Sync + 'static {
    /// What is known of a blob without reading it. [`StoreError::NotFound`] when it is not in the repository.
    async fn stat(&self, access: &Access, digest: &Digest) -> Result<BlobInfo, StoreError>;

    /// A blob's bytes, all or some of them, or the address where the client gets them itself.
    async fn open(
        &self,
        access: &Access,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobContent, StoreError>;

    /// Begins an upload.
    async fn begin(&self, access: &Access, options: BeginUpload) -> Result<UploadState, StoreError>;

    /// Adds `body` to the end of the upload and gives the state after it.
    ///
    /// When the body is cut off ([`StoreError::BodyInterrupted`]) nothing of it counts.
    async fn append(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
    ) -> Result<UploadState, StoreError>;

    /// As [`BlobStore::append`], where the client sends the blob in chunks of a size of its own, so that more is likely
    /// to follow. For stores to which small pieces are a burden.
    async fn append_chunk(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        self.append(access, upload, body).await
    }

    /// Whether the upload can go on: [`StoreError::UploadUnknown`] once it was finished, aborted or swept.
    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError>;

    /// Ends the upload: its bytes become the blob `digest`. [`StoreError::DigestMismatch`] when they are not that.
    ///
    /// Doing it again with the same state and digest after a success succeeds.
    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError>;

    /// Throws the upload away.
    async fn abort(&self, access: &Access, upload: UploadState) -> Result<(), StoreError>;

    /// Makes a blob of another repository, or of any that the caller can read when `from` is `None`, a blob of this
    /// one. `Ok(None)` when that cannot be done and the client has to upload it; never an error for a missing or
    /// unreadable source.
    async fn mount(
        &self,
        access: &Access,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError>;

    /// Removes a blob from this repository; other repositories keep it.
    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError>;
}

/// What is known of a blob without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest, by the algorithm it was asked for with.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The answer of [`BlobStore::open`].
pub enum BlobContent {
    /// The bytes.
    Stream {
        /// The size of the whole blob.
        size: u64,
        /// Which of its bytes these are; `0..size` when all were asked for.
        range: ByteRange,
        /// Exactly `range.len()` bytes.
        body: ByteStream,
    },
    /// Where the client fetches the bytes itself, with its own `Range` header.
    Redirect(Url),
}

impl Debug for BlobContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream { size, range, .. } => {
                f.debug_struct("Stream").field("size", size).field("range", range).finish_non_exhaustive()
            }
            // A signed URL is a secret while it lives.
            Self::Redirect(url) => f.debug_tuple("Redirect").field(&url.host_str()).finish(),
        }
    }
}

/// What is known when an upload begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BeginUpload {
    /// The digest, where the client named it at the start.
    pub digest: Option<Digest>,
    /// The size in bytes, where the client named it at the start.
    pub size: Option<u64>,
    /// The algorithm that the client will finish with, where it said so.
    pub algorithm: Option<Algorithm>,
}

/// An upload between two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadState {
    /// How many bytes are acknowledged.
    pub offset: u64,
    /// What the store needs to go on; opaque to everybody else, at most 4 KiB.
    pub state: Bytes,
}
