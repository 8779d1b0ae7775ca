use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::{BeginUpload, BlobContent, BlobInfo, BlobStore, ByteStream, UploadState, byte_stream};
use crate::access::Access;
use crate::error::StoreError;
use crate::oci::{ByteRange, Digest, RangeRequest, RepositoryName};

/// Keeps blobs in memory: for tests, examples and throw-away registries. Repositories share the bytes of equal blobs.
#[derive(Debug, Default)]
pub struct MemoryBlobStore {
    inner: Mutex<Inner>,
    discovery: bool,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: HashMap<Digest, Bytes>,
    links: HashSet<(RepositoryName, Digest)>,
    uploads: HashMap<u64, Upload>,
    next_upload: u64,
}

#[derive(Debug)]
struct Upload {
    repository: RepositoryName,
    content: BytesMut,
    finished: Option<Digest>,
}

impl MemoryBlobStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store in which a mount that names no source takes the blob from any repository: for registries
    /// where everybody may read everything. Elsewhere that would tell who has which content, and give it away.
    pub fn with_discovery() -> Self {
        Self { discovery: true, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn blob(&self, access: &Access, digest: &Digest) -> Result<&Bytes, StoreError> {
        let linked = self.links.contains(&(access.repository.clone(), *digest));
        let blob = self.blobs.get(digest).filter(|_| linked);
        blob.ok_or_else(|| StoreError::NotFound(format!("the blob {digest}")))
    }

    /// The upload a state belongs to, if it is still going on.
    fn upload(&mut self, access: &Access, state: &UploadState) -> Result<(u64, &mut Upload), StoreError> {
        let id = state.state[..].try_into().map(u64::from_be_bytes).map_err(|_| StoreError::UploadUnknown)?;
        let upload = self.uploads.get_mut(&id).filter(|upload| upload.repository == access.repository);
        upload.map(|upload| (id, upload)).ok_or(StoreError::UploadUnknown)
    }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn stat(&self, access: &Access, digest: &Digest) -> Result<BlobInfo, StoreError> {
        let size = self.lock().blob(access, digest)?.len() as u64;
        Ok(BlobInfo { digest: *digest, size })
    }

    async fn open(
        &self,
        access: &Access,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobContent, StoreError> {
        let blob = self.lock().blob(access, digest)?.clone();
        let size = blob.len() as u64;
        let range = match range {
            None => ByteRange { start: 0, end: size },
            Some(range) => range.resolve(size).ok_or(StoreError::RangeNotSatisfiable { size })?,
        };
        let bounds = |at: u64| usize::try_from(at).map_err(StoreError::internal);
        let body = byte_stream(blob.slice(bounds(range.start)?..bounds(range.end)?));
        Ok(BlobContent::Stream { size, range, body })
    }

    async fn begin(&self, access: &Access, _: BeginUpload) -> Result<UploadState, StoreError> {
        let mut inner = self.lock();
        let id = inner.next_upload;
        inner.next_upload += 1;
        let upload =
            Upload { repository: access.repository.clone(), content: BytesMut::new(), finished: None };
        inner.uploads.insert(id, upload);
        Ok(UploadState { offset: 0, state: Bytes::copy_from_slice(&id.to_be_bytes()) })
    }

    async fn append(
        &self,
        access: &Access,
        upload: UploadState,
        mut body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        self.status(access, &upload).await?;
        let mut received = BytesMut::new();
        while let Some(piece) = body.next().await {
            received.extend_from_slice(&piece.map_err(StoreError::BodyInterrupted)?);
        }
        let mut inner = self.lock();
        let (_, session) = inner.upload(access, &upload)?;
        let offset = usize::try_from(upload.offset).map_err(StoreError::internal)?;
        if session.finished.is_some() || offset > session.content.len() {
            return Err(StoreError::UploadUnknown);
        }
        // What came after this state belongs to a step whose answer the client never took up.
        session.content.truncate(offset);
        session.content.extend_from_slice(&received);
        Ok(UploadState { offset: session.content.len() as u64, ..upload })
    }

    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let (_, session) = inner.upload(access, upload)?;
        if session.finished.is_some() { Err(StoreError::UploadUnknown) } else { Ok(()) }
    }

    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError> {
        let mut inner = self.lock();
        let (_, session) = inner.upload(access, &upload)?;
        let info = BlobInfo { digest: *digest, size: upload.offset };
        if let Some(finished) = session.finished {
            return if finished == *digest { Ok(info) } else { Err(StoreError::UploadUnknown) };
        }
        let offset = usize::try_from(upload.offset).map_err(StoreError::internal)?;
        let content = session.content.get(..offset).ok_or(StoreError::UploadUnknown)?;
        let actual = Digest::of(digest.algorithm(), content);
        if actual != *digest {
            return Err(StoreError::DigestMismatch {
                expected: Box::new(*digest),
                actual: Some(Box::new(actual)),
            });
        }
        session.finished = Some(*digest);
        let mut content = std::mem::take(&mut session.content);
        content.truncate(offset);
        inner.blobs.insert(*digest, content.freeze());
        inner.links.insert((access.repository.clone(), *digest));
        Ok(info)
    }

    async fn abort(&self, access: &Access, upload: UploadState) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let (id, session) = inner.upload(access, &upload)?;
        if session.finished.is_some() {
            return Err(StoreError::UploadUnknown);
        }
        inner.uploads.remove(&id);
        Ok(())
    }

    async fn mount(
        &self,
        access: &Access,
        from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError> {
        let mut inner = self.lock();
        let linked = match from {
            Some(from) => inner.links.contains(&(from.clone(), *digest)),
            None => self.discovery,
        };
        let Some(size) = inner.blobs.get(digest).filter(|_| linked).map(Bytes::len) else { return Ok(None) };
        inner.links.insert((access.repository.clone(), *digest));
        Ok(Some(BlobInfo { digest: *digest, size: size as u64 }))
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.blob(access, digest)?;
        inner.links.remove(&(access.repository.clone(), *digest));
        if !inner.links.iter().any(|(_, linked)| linked == digest) {
            inner.blobs.remove(digest);
        }
        Ok(())
    }
}
