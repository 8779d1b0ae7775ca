use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::ByteRange;
use futures_util::{StreamExt as _, stream};

use super::super::bucket::{Counter, DISTRIBUTION, UPLOADED, UploadName};
use super::super::{Measured, ObjectKey, StorageError, Usage};
use super::error::S3Failure;
use super::{S3Storage, size};

impl S3Storage {
    pub(super) async fn size_of(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        let head = self.inner.client.head_object().bucket(self.bucket()).key(self.full(key)).send().await;
        match head.map_err(S3Failure::from) {
            Ok(head) => Ok(Some(size(head.content_length()))),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.doing(format!("looking for {key}"))),
        }
    }

    pub(super) async fn stream(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        let unknown = || StorageError::ObjectUnknown(key.clone());
        if range.is_empty() {
            self.size_of(key).await?.ok_or_else(unknown)?;
            return Ok(stream::empty().boxed());
        }
        let request = self.inner.client.get_object().bucket(self.bucket()).key(self.full(key));
        let request = request.range(format!("bytes={}-{}", range.start, range.end - 1));
        let object = match request.send().await.map_err(S3Failure::from) {
            Ok(object) => object,
            Err(failure) if failure.is_missing() => return Err(unknown()),
            Err(failure) => return Err(failure.doing(format!("reading {key}"))),
        };
        if size(object.content_length()) != range.len() {
            return Err(StorageError::Failed {
                doing: format!("reading {key}"),
                source: "the storage did not answer the range that was asked for".into(),
            });
        }
        let pieces = stream::try_unfold(object.body, |mut body| async move {
            let piece = body.try_next().await.map_err(Source::from)?;
            Ok(piece.map(|piece| (piece, body)))
        });
        Ok(Measured::new(Some(range.len()), pieces.boxed()).boxed())
    }

    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.remove_object(key).await?;
        match UploadName::of_key(key.as_str()) {
            Some(name) => self.remove_object(&name.location()).await,
            None => Ok(()),
        }
    }

    pub(super) async fn remove_object(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let request = self.inner.client.delete_object().bucket(self.bucket()).key(self.full(key));
        match request.send().await.map_err(S3Failure::from) {
            Err(failure) if !failure.is_missing() => Err(failure.doing(format!("removing {key}"))),
            _ => Ok(()),
        }
    }

    pub(super) async fn count(&self) -> Result<Usage, StorageError> {
        let mut counter = Counter::default();
        for prefix in [UPLOADED, DISTRIBUTION] {
            let request = self.inner.client.list_objects_v2().bucket(self.bucket());
            let mut pages = request.prefix(self.prefixed(prefix)).into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| S3Failure::from(error).doing("listing the bucket"))?;
                for object in page.contents() {
                    if let Some(key) = object.key().and_then(|key| self.own(key)) {
                        counter.add(key, size(object.size()));
                    }
                }
            }
        }
        Ok(counter.usage())
    }
}
