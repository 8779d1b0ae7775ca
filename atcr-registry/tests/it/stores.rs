//! Blob stores that do something special.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::blob_store::{
    BeginUpload, BlobContent, BlobInfo, BlobStore, ByteStream, MemoryBlobStore, UploadState,
};
use atcr_core::oci::{Digest, RangeRequest, RepositoryName};
use atcr_core::{Access, StoreError};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// What a [`Watched`] store did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Piece(usize),
    Aborted,
}

/// A store in memory that tells what happens, answers with an error or redirects when it is told to.
pub(crate) struct Watched {
    inner: Arc<MemoryBlobStore>,
    events: mpsc::UnboundedSender<Event>,
    pub(crate) redirect: bool,
    pub(crate) fail: Option<fn() -> StoreError>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        (Self { inner: Arc::default(), events, redirect: false, fail: None }, receiver)
    }

    pub(crate) fn failing(fail: fn() -> StoreError) -> Self {
        Self { fail: Some(fail), ..Self::new().0 }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.fail.map_or(Ok(()), |fail| Err(fail()))
    }
}

#[async_trait]
impl BlobStore for Watched {
    async fn stat(&self, access: &Access, digest: &Digest) -> Result<BlobInfo, StoreError> {
        self.check()?;
        self.inner.stat(access, digest).await
    }

    async fn open(
        &self,
        access: &Access,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobContent, StoreError> {
        self.check()?;
        if self.redirect {
            self.inner.stat(access, digest).await?;
            let url = format!("https://storage.example/{}?signature=secret", digest.hex()).parse();
            return url.map(BlobContent::Redirect).map_err(StoreError::internal);
        }
        self.inner.open(access, digest, range).await
    }

    async fn begin(&self, access: &Access, options: BeginUpload) -> Result<UploadState, StoreError> {
        self.check()?;
        self.inner.begin(access, options).await
    }

    async fn append(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        self.check()?;
        let events = self.events.clone();
        let watched = body.inspect(move |piece| {
            let _ = events.send(Event::Piece(piece.as_ref().map_or(0, bytes::Bytes::len)));
        });
        self.inner.append(access, upload, watched.boxed()).await
    }

    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError> {
        self.check()?;
        self.inner.status(access, upload).await
    }

    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError> {
        self.check()?;
        self.inner.finish(access, upload, digest).await
    }

    async fn abort(&self, access: &Access, upload: UploadState) -> Result<(), StoreError> {
        let _ = self.events.send(Event::Aborted);
        self.inner.abort(access, upload).await
    }

    async fn mount(
        &self,
        access: &Access,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError> {
        self.check()?;
        self.inner.mount(access, from, digest).await
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        self.check()?;
        self.inner.delete(access, digest).await
    }
}
