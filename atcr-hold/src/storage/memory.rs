use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::{ByteStream, byte_stream};
use atcr_core::oci::ByteRange;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use url::Url;

use super::{
    Capabilities, Measured, Object, ObjectKey, ObjectStorage, OpenUpload, Part, PartBody, PartNumber,
    SignedRequest, StorageError, StorageUpload, Usage,
};

/// Keeps objects in memory: for tests and examples.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: HashMap<ObjectKey, Bytes>,
    uploads: HashMap<StorageUpload, Upload>,
    next: u64,
}

#[derive(Debug)]
struct Upload {
    started: Timestamp,
    /// In the order of their arrival.
    parts: Vec<(Part, Bytes)>,
    key: ObjectKey,
    completed: bool,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn upload(&mut self, id: &StorageUpload) -> Result<&mut Upload, StorageError> {
        self.uploads.get_mut(id).ok_or_else(|| StorageError::UploadUnknown(id.clone()))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[async_trait]
impl ObjectStorage for MemoryStorage {
    fn capabilities(&self) -> Capabilities {
        Capabilities::unlimited()
    }

    async fn begin_upload(&self) -> Result<StorageUpload, StorageError> {
        let mut inner = self.lock();
        let number = inner.number();
        let id = StorageUpload(number.to_string());
        let key = ObjectKey::try_from(format!("uploads/{number}")).expect("a number is a safe segment");
        let upload = Upload { started: Timestamp::now(), parts: Vec::new(), key, completed: false };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    async fn put_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        let mut body = Measured::new(size, body);
        let mut content = BytesMut::new();
        while let Some(piece) = body.next().await {
            content.extend_from_slice(&piece.map_err(StorageError::Body)?);
        }
        let mut inner = self.lock();
        let etag = inner.number().to_string();
        let upload = inner.upload(upload)?;
        let part = Part { number, size: content.len() as u64, etag };
        upload.parts.push((part.clone(), content.freeze()));
        Ok(part)
    }

    async fn presign_part(
        &self,
        _: &StorageUpload,
        _: PartNumber,
        _: Duration,
    ) -> Result<Option<SignedRequest>, StorageError> {
        Ok(None)
    }

    async fn list_parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        let mut inner = self.lock();
        let mut parts: Vec<Part> = Vec::new();
        for (part, _) in &inner.upload(upload)?.parts {
            parts.retain(|earlier| earlier.number != part.number);
            parts.push(part.clone());
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    async fn complete_upload(&self, upload: &StorageUpload, parts: &[Part]) -> Result<Object, StorageError> {
        let mut inner = self.lock();
        let session = inner.upload(upload)?;
        let key = session.key.clone();
        if !session.completed {
            let mut content = BytesMut::new();
            for part in parts {
                let known =
                    session.parts.iter().find(|(p, _)| p.number == part.number && p.etag == part.etag);
                let (_, bytes) = known.ok_or_else(|| StorageError::PartUnknown {
                    number: part.number,
                    etag: part.etag.clone(),
                })?;
                content.extend_from_slice(bytes);
            }
            session.completed = true;
            session.parts.clear();
            inner.objects.insert(key.clone(), content.freeze());
        }
        let size = inner.objects.get(&key).map_or(0, |object| object.len() as u64);
        Ok(Object { key, size })
    }

    async fn abort_upload(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        let mut inner = self.lock();
        if let Some(session) = inner.uploads.remove(upload) {
            inner.objects.remove(&session.key);
        }
        Ok(())
    }

    async fn list_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        let inner = self.lock();
        let open = |(id, upload): (&StorageUpload, &Upload)| OpenUpload {
            upload: id.clone(),
            started: upload.started,
        };
        Ok(inner.uploads.iter().map(open).collect())
    }

    async fn relocate(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        let mut inner = self.lock();
        if let Some(object) = inner.objects.remove(from) {
            inner.objects.insert(wanted.clone(), object);
            inner.uploads.retain(|_, upload| upload.key != *from);
        }
        if inner.objects.contains_key(wanted) {
            Ok(wanted.clone())
        } else {
            Err(StorageError::ObjectUnknown(from.clone()))
        }
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        Ok(self.lock().objects.get(key).map(|object| object.len() as u64))
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        let inner = self.lock();
        let object = inner.objects.get(key).ok_or_else(|| StorageError::ObjectUnknown(key.clone()))?;
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes =
            bounds.filter(|(_, end)| *end <= object.len()).map(|(start, end)| object.slice(start..end));
        bytes.map(byte_stream).ok_or_else(|| StorageError::Failed {
            doing: format!("reading {key}"),
            source: "the range lies outside the object".into(),
        })
    }

    async fn presign_get(&self, _: &ObjectKey, _: Duration) -> Result<Option<Url>, StorageError> {
        Ok(None)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        let inner = self.lock();
        let uploads: Vec<&ObjectKey> = inner.uploads.values().map(|upload| &upload.key).collect();
        let objects = inner.objects.iter().filter(|(key, _)| !uploads.contains(key));
        Ok(objects.fold(Usage::default(), |usage, (_, object)| Usage {
            objects: usage.objects + 1,
            bytes: usage.bytes + object.len() as u64,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_contract() {
        crate::storage::contract::check(|| async { MemoryStorage::new() }).await;
    }
}
