use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::{BASE64, HEXLOWER};
use futures_util::{StreamExt as _, stream};
use md5::{Digest as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CommonPrefix, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult,
    CopySource, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, MultipartUpload,
    Object as ListedObject, Part as ListedPart, PutObjectInput, PutObjectOutput, StreamingBlob,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::BUCKET;
use crate::store::{Content, Object, Part, State, Store, Upload};

/// The operations on the one bucket. Signatures and payload hashes have been checked when one is called.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: Arc<Store>,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn size(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[allow(clippy::unnecessary_wraps, reason = "it ends the operations")]
fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

fn md5_of(content: &Content) -> [u8; 16] {
    let mut md5 = Md5::new();
    for piece in &content.pieces {
        md5.update(piece);
    }
    md5.finalize().into()
}

impl State {
    fn object(&self, key: &str) -> S3Result<&Object> {
        self.objects.get(key).ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn upload(&mut self, id: &str, key: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Bucket {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn check(bucket: &str) -> S3Result<()> {
        if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Reads a body whole, which must be as long and hash to what its headers say.
    async fn receive(
        &self,
        body: Option<StreamingBlob>,
        length: Option<i64>,
        md5: Option<String>,
    ) -> S3Result<(Content, [u8; 16])> {
        let length = length.ok_or_else(|| s3_error!(MissingContentLength))?;
        let mut content = Content::default();
        if let Some(mut body) = body {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| {
                    S3Error::with_message(s3s::S3ErrorCode::IncompleteBody, error.to_string())
                })?;
                content.push(piece);
                if content.size > self.store.rules.max_put {
                    return Err(s3_error!(EntityTooLarge));
                }
            }
        }
        if size(content.size) != length {
            return Err(s3_error!(IncompleteBody));
        }
        let hash = md5_of(&content);
        if md5.is_some_and(|md5| md5 != BASE64.encode(&hash)) {
            return Err(s3_error!(BadDigest));
        }
        Ok((content, hash))
    }

    fn source(state: &State, source: &CopySource) -> S3Result<Object> {
        let CopySource::Bucket { bucket, key, .. } = source else { return Err(s3_error!(NotImplemented)) };
        Self::check(bucket)?;
        Ok(state.object(key)?.clone())
    }
}

fn strong(hash: &[u8]) -> ETag {
    ETag::Strong(hex(hash))
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        Self::check(&request.input.bucket)?;
        answer(HeadBucketOutput::default())
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let (content, md5) = self.receive(input.body, input.content_length, input.content_md5).await?;
        let object = Object {
            content,
            etag: hex(&md5),
            content_type: input.content_type,
            modified: SystemTime::now(),
        };
        self.store.lock().objects.insert(input.key, object);
        answer(PutObjectOutput { e_tag: Some(strong(&md5)), ..PutObjectOutput::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let object = self.store.lock().object(&input.key)?.clone();
        let whole = object.content.size;
        let (content, content_range) = match input.range {
            None => (object.content, None),
            Some(range) => {
                let range = range.check(whole)?;
                let slice = object.content.slice(range.start, range.end - range.start);
                (slice, Some(format!("bytes {}-{}/{whole}", range.start, range.end - 1)))
            }
        };
        let length = size(content.size);
        let pieces = stream::iter(content.pieces.into_iter().map(Ok::<_, std::io::Error>));
        answer(GetObjectOutput {
            body: Some(StreamingBlob::wrap(pieces)),
            content_length: Some(length),
            content_range,
            accept_ranges: Some("bytes".into()),
            content_type: object.content_type,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            ..GetObjectOutput::default()
        })
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let object = self.store.lock().object(&input.key)?.clone();
        answer(HeadObjectOutput {
            content_length: Some(size(object.content.size)),
            content_type: object.content_type,
            accept_ranges: Some("bytes".into()),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            ..HeadObjectOutput::default()
        })
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        Self::check(&request.input.bucket)?;
        self.store.lock().objects.remove(&request.input.key);
        answer(DeleteObjectOutput::default())
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let mut state = self.store.lock();
        let mut object = Self::source(&state, &input.copy_source)?;
        if object.content.size > self.store.rules.max_copy {
            return Err(s3_error!(InvalidRequest, "the source is larger than a copy may be"));
        }
        // The ETag of a multipart object does not survive a copy.
        let md5 = md5_of(&object.content);
        object.etag = hex(&md5);
        object.modified = SystemTime::now();
        let result = CopyObjectResult {
            e_tag: Some(strong(&md5)),
            last_modified: Some(object.modified.into()),
            ..CopyObjectResult::default()
        };
        state.objects.insert(input.key, object);
        answer(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        if input.delimiter.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let page = self.store.rules.page.min(asked(input.max_keys));
        let state = self.store.lock();
        let mut matching = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && (after.is_empty() || **key > after));
        let contents: Vec<ListedObject> = matching
            .by_ref()
            .take(page)
            .map(|(key, object)| ListedObject {
                key: Some(key.clone()),
                size: Some(size(object.content.size)),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                last_modified: Some(object.modified.into()),
                ..ListedObject::default()
            })
            .collect();
        let more = matching.next().is_some();
        answer(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: Some(i32::try_from(contents.len()).unwrap_or(i32::MAX)),
            next_continuation_token: contents.last().filter(|_| more).and_then(|last| last.key.clone()),
            contents: Some(contents),
            common_prefixes: None::<Vec<CommonPrefix>>,
            is_truncated: Some(more),
            ..ListObjectsV2Output::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let mut state = self.store.lock();
        state.next += 1;
        // As long as those of real servers, with what they have in it.
        let id = format!("{:0>120}_.-~{}", state.next, "Kk");
        let upload = Upload {
            key: input.key.clone(),
            content_type: input.content_type,
            started: SystemTime::now(),
            parts: std::collections::BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), upload);
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "part numbers are 1 to 10,000"));
        }
        self.store.lock().upload(&input.upload_id, &input.key)?;
        let (content, md5) = self.receive(input.body, input.content_length, input.content_md5).await?;
        let part = Part { content, md5, modified: SystemTime::now() };
        let mut state = self.store.lock();
        state.upload(&input.upload_id, &input.key)?.parts.insert(input.part_number, part);
        answer(UploadPartOutput { e_tag: Some(strong(&md5)), ..UploadPartOutput::default() })
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let mut state = self.store.lock();
        let source = Self::source(&state, &input.copy_source)?.content;
        let (start, length) = match input.copy_source_range.as_deref() {
            None => (0, source.size),
            Some(range) => copy_range(range, source.size)?,
        };
        if length > self.store.rules.max_copy {
            return Err(s3_error!(InvalidRequest, "the range is larger than a copy may be"));
        }
        let content = source.slice(start, length);
        let md5 = md5_of(&content);
        let part = Part { content, md5, modified: SystemTime::now() };
        let result = CopyPartResult {
            e_tag: Some(strong(&md5)),
            last_modified: Some(part.modified.into()),
            ..CopyPartResult::default()
        };
        state.upload(&input.upload_id, &input.key)?.parts.insert(input.part_number, part);
        answer(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        let mut state = self.store.lock();
        let upload = state.upload(&input.upload_id, &input.key)?;
        let (mut content, mut hashes, mut before) = (Content::default(), Md5::new(), 0);
        for (at, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            before = number;
            let known = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().map(|etag| etag.value().to_owned()) != Some(hex(&known.md5)) {
                return Err(s3_error!(InvalidPart));
            }
            if known.content.size < self.store.rules.min_part && at + 1 < named.len() {
                return Err(s3_error!(EntityTooSmall));
            }
            content.append(&known.content);
            hashes.update(known.md5);
        }
        let etag = format!("{}-{}", hex(&hashes.finalize()), named.len());
        let content_type = upload.content_type.clone();
        let object = Object { content, etag: etag.clone(), content_type, modified: SystemTime::now() };
        state.uploads.remove(&input.upload_id);
        state.objects.insert(input.key.clone(), object);
        answer(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let mut state = self.store.lock();
        state.upload(&input.upload_id, &input.key)?;
        state.uploads.remove(&input.upload_id);
        answer(AbortMultipartUploadOutput::default())
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let page = self.store.rules.page.min(asked(input.max_parts));
        let after: i32 =
            input.part_number_marker.and_then(|marker| marker.to_string().parse().ok()).unwrap_or(0);
        let mut state = self.store.lock();
        let upload = state.upload(&input.upload_id, &input.key)?;
        let mut matching = upload.parts.range(after + 1..);
        let parts: Vec<ListedPart> = matching
            .by_ref()
            .take(page)
            .map(|(number, part)| ListedPart {
                part_number: Some(*number),
                size: Some(size(part.content.size)),
                e_tag: Some(strong(&part.md5)),
                last_modified: Some(part.modified.into()),
                ..ListedPart::default()
            })
            .collect();
        let more = matching.next().is_some();
        let last = parts.last().filter(|_| more).and_then(|part| part.part_number);
        answer(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(more),
            next_part_number_marker: last.and_then(|number| number.to_string().parse().ok()),
            parts: Some(parts),
            ..ListPartsOutput::default()
        })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        Self::check(&input.bucket)?;
        let page = self.store.rules.page.min(asked(input.max_uploads));
        let prefix = input.prefix.unwrap_or_default();
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let state = self.store.lock();
        let mut matching: Vec<(&String, &String, &Upload)> = state
            .uploads
            .iter()
            .map(|(id, upload)| (&upload.key, id, upload))
            .filter(|(key, id, _)| {
                let behind = after.0.is_empty()
                    || **key > after.0
                    || (**key == after.0 && !after.1.is_empty() && **id > after.1);
                key.starts_with(&prefix) && behind
            })
            .collect();
        matching.sort_by_key(|(key, id, _)| (*key, *id));
        let more = matching.len() > page;
        matching.truncate(page);
        let last = matching.last().filter(|_| more).map(|(key, id, _)| ((*key).clone(), (*id).clone()));
        let (next_key, next_id) = last.unzip();
        let uploads = matching.into_iter().map(|(key, id, upload)| MultipartUpload {
            key: Some(key.clone()),
            upload_id: Some(id.clone()),
            initiated: Some(upload.started.into()),
            ..MultipartUpload::default()
        });
        answer(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(prefix),
            is_truncated: Some(more),
            next_key_marker: next_key,
            next_upload_id_marker: next_id,
            uploads: Some(uploads.collect()),
            ..ListMultipartUploadsOutput::default()
        })
    }
}

fn asked(most: Option<i32>) -> usize {
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(1000)
}

/// The start and length of `bytes=a-b`, which must lie inside the source.
fn copy_range(range: &str, whole: u64) -> S3Result<(u64, u64)> {
    let bounds = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| Some((first.parse().ok()?, last.parse::<u64>().ok()?)));
    match bounds {
        Some((first, last)) if first <= last && last < whole => Ok((first, last - first + 1)),
        Some(_) => Err(s3_error!(InvalidRange)),
        None => Err(s3_error!(InvalidArgument)),
    }
}
