use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    next_id: u64,
}

#[derive(Debug)]
struct Upload {
    repository: RepositoryName,
    content: BytesMut,
    /// The steps that led to the content, each with the length after it. The state that a client holds names one; a
    /// step that was done over is no longer among them, and neither is what followed it.
    steps: Vec<(u64, usize)>,
    finished: Option<Digest>,
    touched: Instant,
}

/// An upload that nobody went on with for this long is given up.
const IDLE: Duration = Duration::from_hours(24);
/// How often the abandoned ones are looked for: once in so many uploads.
const SWEEP_EVERY: u64 = 64;

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

    /// A number for an upload or a step.
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The upload a state belongs to, if it is still going on or has ended well, and the state's place in it.
    fn upload(&mut self, access: &Access, state: &UploadState) -> Result<(&mut Upload, Place), StoreError> {
        let place = Place::read(&state.state).ok_or(StoreError::UploadUnknown)?;
        let upload =
            self.uploads.get_mut(&place.upload).filter(|upload| upload.repository == access.repository);
        let upload = upload.ok_or(StoreError::UploadUnknown)?;
        let known =
            upload.steps.iter().any(|(step, length)| *step == place.step && *length as u64 == state.offset);
        if !known {
            return Err(StoreError::UploadUnknown);
        }
        upload.touched = Instant::now();
        Ok((upload, place))
    }
}

/// What an [`UploadState`] of this store says.
#[derive(Clone, Copy)]
struct Place {
    upload: u64,
    step: u64,
}

impl Place {
    fn read(state: &[u8]) -> Option<Self> {
        let (upload, step) = state.split_first_chunk()?;
        Some(Self { upload: u64::from_be_bytes(*upload), step: u64::from_be_bytes(step.try_into().ok()?) })
    }

    fn at(self, offset: usize) -> UploadState {
        let state = [self.upload.to_be_bytes(), self.step.to_be_bytes()].concat();
        UploadState { offset: offset as u64, state: state.into() }
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
        let place = Place { upload: inner.id(), step: inner.id() };
        let upload = Upload {
            repository: access.repository.clone(),
            content: BytesMut::new(),
            steps: vec![(place.step, 0)],
            finished: None,
            touched: Instant::now(),
        };
        if inner.uploads.len() as u64 % SWEEP_EVERY == SWEEP_EVERY - 1 {
            inner.uploads.retain(|_, upload| upload.touched.elapsed() < IDLE);
        }
        inner.uploads.insert(place.upload, upload);
        Ok(place.at(0))
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
        let step = inner.id();
        let (session, place) = inner.upload(access, &upload)?;
        if session.finished.is_some() {
            return Err(StoreError::UploadUnknown);
        }
        // What came after this state belongs to steps whose answer the client never took up.
        while session.steps.last().is_some_and(|(last, _)| *last != place.step) {
            session.steps.pop();
        }
        session.content.truncate(usize::try_from(upload.offset).map_err(StoreError::internal)?);
        session.content.extend_from_slice(&received);
        let length = session.content.len();
        session.steps.push((step, length));
        Ok(Place { step, ..place }.at(length))
    }

    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let (session, _) = inner.upload(access, upload)?;
        if session.finished.is_some() { Err(StoreError::UploadUnknown) } else { Ok(()) }
    }

    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError> {
        let mut inner = self.lock();
        let (session, _) = inner.upload(access, &upload)?;
        let info = BlobInfo { digest: *digest, size: upload.offset };
        if let Some(finished) = session.finished {
            return if finished == *digest { Ok(info) } else { Err(StoreError::UploadUnknown) };
        }
        let offset = usize::try_from(upload.offset).map_err(StoreError::internal)?;
        let content = session.content.get(..offset).ok_or(StoreError::UploadUnknown)?;
        let actual = Digest::of(digest.algorithm(), content);
        if actual != *digest {
            let (expected, actual) = (Box::new(*digest), Some(Box::new(actual)));
            return Err(StoreError::DigestMismatch { expected, actual });
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
        let (session, place) = inner.upload(access, &upload)?;
        if session.finished.is_some() {
            return Err(StoreError::UploadUnknown);
        }
        inner.uploads.remove(&place.upload);
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

#[cfg(test)]
mod tests {
    use super::super::{byte_stream, contract};
    use super::*;

    fn at(repository: &str) -> Access {
        Access::anonymous(repository.parse().unwrap())
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        let store = MemoryBlobStore::new();
        contract::check(&store, &at("here/app"), &at("else/where"), &contract::never_redirects).await;
    }

    #[tokio::test]
    async fn a_step_that_was_done_over_is_unknown() {
        let (store, here) = (MemoryBlobStore::new(), at("app"));
        let begun = store.begin(&here, BeginUpload::default()).await.unwrap();
        let lost = store.append(&here, begun.clone(), byte_stream("lost")).await.unwrap();
        store.append(&here, begun, byte_stream("more")).await.unwrap();
        assert!(matches!(store.status(&here, &lost).await, Err(StoreError::UploadUnknown)));
    }

    #[tokio::test]
    async fn a_mount_without_a_source_needs_discovery() {
        for (store, found) in [(MemoryBlobStore::new(), false), (MemoryBlobStore::with_discovery(), true)] {
            let digest = Digest::sha256(b"blob");
            let begun = store.begin(&at("a"), BeginUpload::default()).await.unwrap();
            let sent = store.append(&at("a"), begun, byte_stream("blob")).await.unwrap();
            store.finish(&at("a"), sent, &digest).await.unwrap();
            assert_eq!(store.mount(&at("b"), None, &digest).await.unwrap().is_some(), found);
        }
    }
}
