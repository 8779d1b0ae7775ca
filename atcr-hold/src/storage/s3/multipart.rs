use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use jiff::Timestamp;

use super::super::bucket::{UPLOADED, UploadName};
use super::super::{Object, OpenUpload, Part, PartNumber, StorageError, StorageUpload};
use super::error::S3Failure;
use super::{MIN_PART, S3Storage, part_number, says_that_it_is_empty, size};
use crate::storage::bare;

/// How long the storage may take to join parts.
const COMPLETION: Duration = Duration::from_secs(300);

impl S3Storage {
    pub(super) async fn begin(&self) -> Result<StorageUpload, StorageError> {
        let name = UploadName::random()?;
        let request = self.inner.client.create_multipart_upload().bucket(self.bucket());
        let request = request.key(self.full(&name.data())).content_type("application/octet-stream");
        // The bytes under a key never change.
        let request = request.cache_control("max-age=31536000, immutable");
        let begun = request.customize().mutate_request(says_that_it_is_empty).send().await;
        let begun = begun.map_err(|error| S3Failure::from(error).doing("beginning an upload"))?;
        let id = begun.upload_id().ok_or_else(|| StorageError::Failed {
            doing: "beginning an upload".into(),
            source: "the storage gave no upload id".into(),
        })?;
        Ok(name.upload(id))
    }

    pub(super) async fn parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        let (name, id) = UploadName::of_upload(upload)?;
        let request =
            self.inner.client.list_parts().bucket(self.bucket()).key(self.full(&name.data())).upload_id(id);
        let mut parts = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = request.clone().set_part_number_marker(after.clone()).send().await;
            let page = page.map_err(|error| of_upload(error.into(), upload, "listing the parts"))?;
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u32::try_from(number).ok());
                if let Some(number) = number.and_then(PartNumber::new) {
                    let etag = bare(part.e_tag().unwrap_or_default());
                    parts.push(Part { number, size: size(part.size()), etag: etag.to_owned() });
                }
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || next.is_none() || next == after {
                parts.sort_by_key(|part| part.number);
                return Ok(parts);
            }
            after = next;
        }
    }

    pub(super) async fn complete(
        &self,
        upload: &StorageUpload,
        parts: &[Part],
    ) -> Result<Object, StorageError> {
        let (name, id) = UploadName::of_upload(upload)?;
        let key = name.data();
        let failure = if parts.is_empty() {
            self.complete_empty(upload, &name, id).await?
        } else {
            let named = parts.iter().map(|part| {
                let etag = format!("\"{}\"", part.etag);
                Ok(CompletedPart::builder().part_number(part_number(part.number)?).e_tag(etag).build())
            });
            let named: Vec<CompletedPart> = named.collect::<Result<_, StorageError>>()?;
            let named = CompletedMultipartUpload::builder().set_parts(Some(named)).build();
            let request = self.inner.client.complete_multipart_upload().bucket(self.bucket());
            let request = request.key(self.full(&key)).upload_id(id).multipart_upload(named);
            let completed = request.customize().config_override(Self::patient(COMPLETION)).send().await;
            completed.err().map(S3Failure::from)
        };
        // Whether it was done this time, before, or by a request whose answer was lost: the object is there then, and
        // nothing else makes one of that name.
        if let Some(size) = self.size_of(&key).await? {
            return Ok(Object { key, size });
        }
        let Some(failure) = failure else {
            return Err(StorageError::Failed {
                doing: "joining the parts".into(),
                source: "the storage said that they are joined, but has no object".into(),
            });
        };
        if matches!(failure.code(), "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") {
            self.check_parts(upload, parts).await?;
        }
        Err(of_upload(failure, upload, "joining the parts"))
    }

    /// An upload without parts cannot be completed, so its object is put in its place.
    async fn complete_empty(
        &self,
        upload: &StorageUpload,
        name: &UploadName,
        id: &str,
    ) -> Result<Option<S3Failure>, StorageError> {
        if self.size_of(&name.data()).await?.is_some() {
            return Ok(None);
        }
        self.parts(upload).await?;
        let request = self.inner.client.put_object().bucket(self.bucket()).key(self.full(&name.data()));
        if let Err(error) = request.body(ByteStream::from_static(b"")).send().await {
            return Ok(Some(error.into()));
        }
        self.abort_multipart(name, id).await.map(|()| None)
    }

    /// Finds the part that the storage does not take.
    async fn check_parts(&self, upload: &StorageUpload, parts: &[Part]) -> Result<(), StorageError> {
        let known = self.parts(upload).await?;
        for (at, part) in parts.iter().enumerate() {
            let there = known.iter().find(|known| known.number == part.number && known.etag == part.etag);
            let Some(there) = there else {
                return Err(StorageError::PartUnknown { number: part.number, etag: part.etag.clone() });
            };
            if there.size < MIN_PART && at + 1 < parts.len() {
                let limit = format!("all but the last have at least {MIN_PART} bytes");
                return Err(StorageError::PartSize { size: there.size, limit });
            }
        }
        Ok(())
    }

    pub(super) async fn abort(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        let Ok((name, id)) = UploadName::of_upload(upload) else { return Ok(()) };
        self.abort_multipart(&name, id).await?;
        if self.size_of(&name.location()).await?.is_none() {
            self.remove_object(&name.data()).await?;
        }
        Ok(())
    }

    async fn abort_multipart(&self, name: &UploadName, id: &str) -> Result<(), StorageError> {
        let request = self.inner.client.abort_multipart_upload().bucket(self.bucket());
        let aborted = request.key(self.full(&name.data())).upload_id(id).send().await;
        match aborted.map_err(S3Failure::from) {
            Err(failure) if failure.code() == "NoSuchUpload" || failure.is_missing() => Ok(()),
            Err(failure) => Err(failure.doing("aborting an upload")),
            Ok(_) => Ok(()),
        }
    }

    pub(super) async fn open_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        // Others may use the bucket: their uploads are their own.
        let request = self.inner.client.list_multipart_uploads().bucket(self.bucket());
        let request = request.prefix(self.prefixed(UPLOADED));
        let mut open = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let page = request.clone().set_key_marker(after.0.clone()).set_upload_id_marker(after.1.clone());
            let page =
                page.send().await.map_err(|error| S3Failure::from(error).doing("listing the uploads"))?;
            for upload in page.uploads() {
                let name = upload.key().and_then(|key| UploadName::of_key(self.own(key)?));
                if let Some((name, id)) = name.zip(upload.upload_id()) {
                    let started = upload.initiated().map_or(Timestamp::UNIX_EPOCH, timestamp);
                    open.push(OpenUpload { upload: name.upload(id), started });
                }
            }
            let markers = (page.next_key_marker(), page.next_upload_id_marker());
            let next = (markers.0.map(str::to_owned), markers.1.map(str::to_owned));
            if page.is_truncated() != Some(true) || next.0.is_none() || next == after {
                return Ok(open);
            }
            after = next;
        }
    }
}

/// What a failure at an upload means.
pub(super) fn of_upload(failure: S3Failure, upload: &StorageUpload, doing: &str) -> StorageError {
    match failure.code() {
        "NoSuchUpload" => StorageError::UploadUnknown(upload.clone()),
        _ => failure.doing(doing),
    }
}

fn timestamp(at: &DateTime) -> Timestamp {
    Timestamp::from_second(at.secs()).unwrap_or(Timestamp::UNIX_EPOCH)
}
