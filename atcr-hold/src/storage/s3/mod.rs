//! Objects in a bucket of S3 or of whatever speaks its protocol, in the layout of [`bucket`](super::bucket).
//!
//! An upload is a multipart upload under a key of its own, so nothing is copied at the end, two uploads never meet,
//! and what a request did whose answer was lost can be seen. No correctness rests on conditional requests, which real
//! servers ignore.

mod config;
mod copy;
mod error;
mod multipart;
mod objects;
mod part;
mod presign;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::ByteRange;
use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use url::Url;

pub use self::config::{Addressing, S3Config, S3Credentials};
use self::presign::Signer;
use super::{
    Capabilities, Object, ObjectKey, ObjectStorage, OpenUpload, Part, PartBody, PartNumber, SignedRequest,
    StorageError, StorageUpload, Usage,
};

/// The least size of a part that is not the last one.
const MIN_PART: u64 = 5 << 20;
/// The greatest size of a part.
const MAX_PART: u64 = 5 << 30;
/// The most parts of an upload.
const MAX_PARTS: u32 = 10_000;
/// Where S3 is when nobody says otherwise.
const DEFAULT_REGION: &str = "us-east-1";
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a request is made before it has failed.
const ATTEMPTS: u32 = 3;

/// Keeps objects in a bucket of S3, or of a service that speaks its protocol. Cloning shares the connections.
///
/// Nothing is kept outside the bucket, so any number of processes may use one. Several holds may share a bucket by
/// different prefixes.
///
/// Memory: a part that passes through takes 256 KiB and what the connections buffer. One whose size is not known
/// beforehand is gathered in a file first ([`S3Config::spool_dir`]).
#[derive(Debug, Clone)]
pub struct S3Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    config: S3Config,
    signer: Signer,
}

impl S3Storage {
    /// Prepares access to the bucket. The bucket itself is asked nothing yet; [`S3Credentials::Chain`] may ask for
    /// credentials.
    pub async fn open(config: S3Config) -> Self {
        let (builder, credentials) = match &config.credentials {
            S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
                let (id, secret) = (access_key_id, secret_access_key);
                let known = Credentials::new(id, secret, session_token.clone(), None, "configuration");
                let known = SharedCredentialsProvider::new(known);
                let builder = Builder::new()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new(config.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned())))
                    .credentials_provider(known.clone());
                (builder, Some(known))
            }
            S3Credentials::Chain => {
                let chain = aws_config::defaults(BehaviorVersion::latest()).load().await;
                let found = chain.region().cloned();
                let region = config.region.clone().map(Region::new).or(found);
                let region = region.unwrap_or_else(|| Region::from_static(DEFAULT_REGION));
                (Builder::from(&chain).region(region), chain.credentials_provider())
            }
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(config.timeout / 2)
            .operation_timeout(config.timeout)
            .build();
        let mut builder = builder
            .force_path_style(config.path_style())
            // Others than AWS refuse or ignore what would be sent otherwise.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        super::spool::sweep(&config.spool_dir).await;
        let client = Client::from_conf(builder.build());
        Self { inner: Arc::new(Inner { client, config, signer: Signer::new(credentials) }) }
    }

    fn bucket(&self) -> &str {
        &self.inner.config.bucket
    }

    /// A key as the bucket has it.
    fn full(&self, key: &ObjectKey) -> String {
        self.prefixed(key.as_str())
    }

    fn prefixed(&self, key: &str) -> String {
        match &self.inner.config.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        }
    }

    /// A key of the bucket without the prefix, if it has it.
    fn own<'k>(&self, key: &'k str) -> Option<&'k str> {
        match &self.inner.config.prefix {
            Some(prefix) => key.strip_prefix(prefix.as_str())?.strip_prefix('/'),
            None => Some(key),
        }
    }

    /// For requests that take their time with the size of what they handle: they may take so long.
    fn patient(limit: Duration) -> Builder {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(limit)
            .operation_timeout(limit * ATTEMPTS);
        Builder::new().timeout_config(timeouts.build())
    }
}

/// A request without a body does not say so by itself, and Google wants it to.
fn says_that_it_is_empty(request: &mut HttpRequest) {
    request.headers_mut().insert("content-length", "0");
}

/// As the protocol has it.
fn part_number(number: PartNumber) -> Result<i32, StorageError> {
    i32::try_from(number.get()).map_err(|_| StorageError::PartUnknown { number, etag: String::new() })
}

/// A size that the protocol gives; it is never negative.
fn size(length: Option<i64>) -> u64 {
    length.map_or(0, i64::unsigned_abs)
}

#[async_trait]
impl ObjectStorage for S3Storage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            presign: self.inner.config.presign,
            min_part: MIN_PART,
            max_part: Some(MAX_PART),
            max_parts: MAX_PARTS,
            part_size: self.inner.config.part_size.clamp(MIN_PART, MAX_PART),
            replaces_parts: true,
        }
    }

    async fn begin_upload(&self) -> Result<StorageUpload, StorageError> {
        self.begin().await
    }

    async fn put_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError> {
        self.send_part(upload, number, size, body).await
    }

    async fn presign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        life: Duration,
    ) -> Result<Option<SignedRequest>, StorageError> {
        if !self.inner.config.presign {
            return Ok(None);
        }
        self.sign_part(upload, number, life).await.map(Some)
    }

    async fn list_parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        self.parts(upload).await
    }

    async fn complete_upload(&self, upload: &StorageUpload, parts: &[Part]) -> Result<Object, StorageError> {
        self.complete(upload, parts).await
    }

    async fn abort_upload(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        self.abort(upload).await
    }

    async fn list_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        self.open_uploads().await
    }

    async fn relocate(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        self.keep(from, wanted).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        self.size_of(key).await
    }

    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        self.stream(key, range).await
    }

    async fn presign_get(&self, key: &ObjectKey, life: Duration) -> Result<Option<Url>, StorageError> {
        if !self.inner.config.presign {
            return Ok(None);
        }
        self.sign_get(key, life).await.map(Some)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.remove(key).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.count().await
    }

    async fn refuses_other_payload(&self) -> Result<Option<bool>, StorageError> {
        self.send_other_payload().await.map(Some)
    }
}
