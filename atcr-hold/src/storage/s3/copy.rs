use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::bucket::UploadName;
use super::super::{Layout, ObjectKey, StorageError};
use super::error::S3Failure;
use super::{S3Storage, says_that_it_is_empty};

/// How long one copy may take: some 30 seconds a GiB on AWS, and more is not copied at once.
const COPY: Duration = Duration::from_secs(600);
/// Bytes that one request copies of an object that is too large for one.
const RANGE: u64 = 512 << 20;
/// Ranges that are copied at the same time.
const PARALLEL: usize = 4;

impl S3Storage {
    pub(super) async fn keep(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        if from == wanted {
            return Ok(wanted.clone());
        }
        match (self.inner.config.layout, UploadName::of_key(from.as_str())) {
            (Layout::Uploaded, Some(name)) => {
                self.locate(&name, wanted).await?;
                Ok(from.clone())
            }
            _ => self.shift(from, wanted).await,
        }
    }

    /// Notes that an object stays, and what it is.
    async fn locate(&self, name: &UploadName, wanted: &ObjectKey) -> Result<(), StorageError> {
        let request = self.inner.client.put_object().bucket(self.bucket()).key(self.full(&name.location()));
        let body = ByteStream::from(wanted.to_string().into_bytes());
        match request.content_type("text/plain").body(body).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(S3Failure::from(error).doing(format!("noting where {wanted} is"))),
        }
    }

    /// Copies an object and removes the original.
    async fn shift(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        let Some(size) = self.size_of(from).await? else {
            let there = self.size_of(wanted).await?.is_some();
            return if there { Ok(wanted.clone()) } else { Err(StorageError::ObjectUnknown(from.clone())) };
        };
        if size <= self.inner.config.copy_limit {
            let request = self.inner.client.copy_object().bucket(self.bucket()).key(self.full(wanted));
            let request = request.copy_source(self.source(from));
            let request = request.customize().config_override(Self::patient(COPY));
            let copied = request.mutate_request(says_that_it_is_empty).send().await;
            copied.map_err(|error| S3Failure::from(error).doing(format!("copying to {wanted}")))?;
        } else {
            self.copy_ranges(from, wanted, size).await?;
        }
        let copied = self.size_of(wanted).await?;
        if copied != Some(size) {
            return Err(StorageError::Failed {
                doing: format!("copying to {wanted}"),
                source: format!("the storage made {copied:?} of {size} bytes").into(),
            });
        }
        self.remove_object(from).await?;
        Ok(wanted.clone())
    }

    async fn copy_ranges(&self, from: &ObjectKey, wanted: &ObjectKey, size: u64) -> Result<(), StorageError> {
        let doing = || format!("copying to {wanted}");
        let key = self.full(wanted);
        let request = self.inner.client.create_multipart_upload().bucket(self.bucket()).key(&key);
        let begun = request.content_type("application/octet-stream").send().await;
        let begun = begun.map_err(|error| S3Failure::from(error).doing(doing()))?;
        let id = begun.upload_id().unwrap_or_default();
        let copied = self.copy_parts(from, &key, id, size).await;
        let joined = match copied {
            Ok(parts) => {
                let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
                let request = self.inner.client.complete_multipart_upload().bucket(self.bucket()).key(&key);
                let request = request.upload_id(id).multipart_upload(parts);
                let joined = request.customize().config_override(Self::patient(COPY)).send().await;
                joined.map(drop).map_err(S3Failure::from)
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = joined {
            let abort = self.inner.client.abort_multipart_upload().bucket(self.bucket()).key(&key);
            if let Err(error) = abort.upload_id(id).send().await.map_err(S3Failure::from) {
                tracing::warn!(%error, key, "the parts of a copy that failed stay in the bucket");
            }
            return Err(failure.doing(doing()));
        }
        Ok(())
    }

    async fn copy_parts(
        &self,
        from: &ObjectKey,
        key: &str,
        id: &str,
        size: u64,
    ) -> Result<Vec<CompletedPart>, S3Failure> {
        let step = RANGE.min(self.inner.config.copy_limit).max(super::MIN_PART);
        let ranges = (0..size.div_ceil(step)).zip(1..);
        let copies = stream::iter(ranges).map(|(at, number): (u64, i32)| async move {
            let (start, end) = (at * step, size.min((at + 1) * step));
            let request = self.inner.client.upload_part_copy().bucket(self.bucket()).key(key).upload_id(id);
            let request = request.part_number(number).copy_source(self.source(from));
            let request = request.copy_source_range(format!("bytes={start}-{}", end - 1));
            let copied = request.customize().config_override(Self::patient(COPY)).send().await?;
            let etag = copied.copy_part_result().and_then(|part| part.e_tag()).unwrap_or_default();
            Ok(CompletedPart::builder().part_number(number).e_tag(etag).build())
        });
        copies.buffered(PARALLEL).try_collect().await
    }

    /// Keys and buckets need no escapes: they are of unreserved characters.
    fn source(&self, key: &ObjectKey) -> String {
        format!("{}/{}", self.bucket(), self.full(key))
    }
}
