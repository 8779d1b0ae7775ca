//! Objects in a container of Azure Blob Storage, in the layout of [`bucket`](super::bucket).
//!
//! ```text
//! atcr/uploads/<id>/staged or /direct   is there while the upload is, and says how it ends
//! atcr/uploads/<id>/parts               the blocks of a staged upload; nobody reads it
//! ```
//!
//! A URL that lets its bearer put a block lets them overwrite the whole blob, for as long as it is good. So where such
//! URLs are handed out, they name a blob that is never read: at the end the blocks are joined there, and the storage
//! copies what it joined, by ETag, to the object's own name, for which nobody ever had such a URL.

mod blobs;
mod client;
mod config;
mod part;
mod sas;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::ByteRange;
use url::Url;

pub use self::config::{AzureAccountKey, AzureConfig, AzureKeyError};
use self::sas::Right;
use super::{
    Capabilities, Object, ObjectKey, ObjectStorage, OpenUpload, Part, PartBody, PartNumber, SignedRequest,
    StorageError, StorageUpload, Usage,
};

/// The greatest size of a block.
const MAX_PART: u64 = 4000 << 20;
/// The most blocks of a blob.
const MAX_PARTS: u32 = 50_000;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the storage may be silent in the middle of an object.
const SILENCE: Duration = Duration::from_secs(60);

/// Keeps objects in a container of Azure Blob Storage. Cloning shares the connections.
///
/// Nothing is kept outside the container, so any number of processes may use one. Several holds may share a container
/// by different prefixes.
///
/// Memory: a part that passes through takes 256 KiB and what the connections buffer. One whose size is not known
/// beforehand is gathered in a file first ([`AzureConfig::spool_dir`]).
#[derive(Debug, Clone)]
pub struct AzureStorage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    root: Url,
    config: AzureConfig,
}

impl AzureStorage {
    /// Prepares access to the container, which is asked nothing yet.
    ///
    /// # Errors
    /// [`StorageError::Failed`] when the account's name makes no URL, or no TLS is to be had.
    pub async fn open(config: AzureConfig) -> Result<Self, StorageError> {
        let failed =
            |source: Source| StorageError::Failed { doing: "preparing access to Azure".into(), source };
        let root = match &config.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://{}.blob.core.windows.net", config.account)
                .parse()
                .map_err(|error: url::ParseError| failed(error.into()))?,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the operator names the storage, which may be at a private address"
        )]
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| failed(error.into()))?;
        super::spool::sweep(&config.spool_dir).await;
        Ok(Self { inner: Arc::new(Inner { client, root, config }) })
    }

    fn prefixed(&self, key: &str) -> String {
        match &self.inner.config.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        }
    }

    /// A name in the container without the prefix, if it has it.
    fn own<'k>(&self, name: &'k str) -> Option<&'k str> {
        match &self.inner.config.prefix {
            Some(prefix) => name.strip_prefix(prefix.as_str())?.strip_prefix('/'),
            None => Some(name),
        }
    }
}

#[async_trait]
impl ObjectStorage for AzureStorage {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            presign: self.inner.config.presign,
            min_part: 0,
            max_part: Some(MAX_PART),
            max_parts: MAX_PARTS,
            part_size: self.inner.config.part_size.clamp(1, MAX_PART),
            replaces_parts: false,
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
        self.sign_part(upload, number, life)
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
        let config = &self.inner.config;
        if !config.presign {
            return Ok(None);
        }
        let mut url = self.url(key, Right::Read, life, config.url_window);
        if let Some(zone) = &config.pull_zone {
            let path = format!("{}{}", zone.path().trim_end_matches('/'), url.path());
            let mut address = zone.clone();
            address.set_path(&path);
            address.set_query(url.query());
            url = address;
        }
        Ok(Some(url))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.remove(key).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.count().await
    }
}
