use async_trait::async_trait;
use atcr_core::syntax::Did;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use ipld_core::cid::Cid;

/// Why the bytes of a blob could not be kept or had.
#[derive(Debug, thiserror::Error)]
#[error("blob storage failed at {place}: {cause}")]
pub struct BlobError {
    /// The file or object concerned.
    pub place: String,
    /// What the system said.
    #[source]
    pub cause: std::io::Error,
}

/// A blob that is being read.
pub struct BlobContent {
    /// Length in bytes.
    pub size: u64,
    /// The bytes, in pieces of bounded size.
    pub bytes: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// A place for the bytes of blobs, by account and CID.
///
/// Contract: a blob is there whole or not at all, also after a crash; [`BlobSink::finish`] returns only when the
/// bytes are durable. Reads that began before a deletion may end with an error, never with other bytes.
#[async_trait]
pub trait BlobStorage: Send + Sync + 'static {
    /// Begins to take in a blob whose CID is not known yet. Dropping the sink leaves nothing behind.
    async fn begin(&self) -> Result<Box<dyn BlobSink>, BlobError>;

    /// Opens a blob; `None` when it is not there.
    async fn open(&self, did: &Did, cid: &Cid) -> Result<Option<BlobContent>, BlobError>;

    /// The CIDs of all blobs of an account, in any order. What comes or goes meanwhile may be in it or not.
    async fn list(&self, did: &Did) -> Result<BoxStream<'static, Result<Cid, BlobError>>, BlobError>;

    /// Removes a blob; it may be gone already.
    async fn delete(&self, did: &Did, cid: &Cid) -> Result<(), BlobError>;
}

/// A blob on its way into a [`BlobStorage`].
#[async_trait]
pub trait BlobSink: Send {
    /// Appends a piece.
    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError>;

    /// Makes what was written the blob `cid` of `did`. Whoever calls has computed the CID from the same pieces.
    async fn finish(self: Box<Self>, did: &Did, cid: &Cid) -> Result<(), BlobError>;
}
