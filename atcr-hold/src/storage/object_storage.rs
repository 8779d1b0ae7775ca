use std::fmt::{self, Debug};
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::ByteRange;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use url::Url;

use super::ObjectKey;

/// The number of a part of an upload; the first one is 1.
pub type PartNumber = NonZeroU32;

/// The bytes of a part in flight: pieces of any size, ended early by an error when the sender went away.
pub type PartBody<'a> = dyn Stream<Item = Result<Bytes, Source>> + Send + Unpin + 'a;

/// A place for objects of any size: a directory, a bucket.
///
/// An object comes into being by an *upload* of numbered parts. Nothing is known of its digest here; the layer above
/// hashes what it sends, or reads back what others sent by signed URLs.
///
/// Contract, checked by the module `contract` (feature of the same name):
/// - An object is visible whole or not at all. Once [`ObjectStorage::complete_upload`] has answered, its bytes are
///   durable and do not change, whatever is still on its way to a part of that upload.
/// - [`ObjectStorage::complete_upload`] takes exactly the parts it is given, by number *and* ETag: of a part that was
///   sent twice, the one whose ETag is named. Every acknowledged part stays usable until the upload ends, unless it was
///   sent again and [`Capabilities::replaces_parts`]: then only the newest is.
/// - A part whose body ends with an error leaves nothing behind.
/// - Parts of one upload may be sent in any order, at the same time, and again.
/// - All state is in the storage: another process on the same storage can go on with an upload.
/// - Memory use does not depend on the size of a part.
/// - A future that is dropped leaves the storage as it was, or as if the call had come to its end.
#[async_trait]
pub trait ObjectStorage: Debug + Send + Sync + 'static {
    /// What this storage can do. To be asked, never guessed from a name.
    fn capabilities(&self) -> Capabilities;

    /// Begins an upload.
    async fn begin_upload(&self) -> Result<StorageUpload, StorageError>;

    /// Takes in one part and gives its receipt. Where its size in bytes is known beforehand, saying so may save the
    /// storage from gathering the part before it sends it on; a body that then has another size is refused like one
    /// that is cut off.
    async fn put_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        size: Option<u64>,
        body: &mut PartBody<'_>,
    ) -> Result<Part, StorageError>;

    /// A request with which somebody else sends the part directly, good for `life`; `None` when
    /// [`Capabilities::presign`] is off. The answer to that request has an `ETag`, or the ETag is told beforehand, in
    /// [`SignedRequest::etag`].
    async fn presign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        life: Duration,
    ) -> Result<Option<SignedRequest>, StorageError>;

    /// All parts that the storage has, by number; of one sent twice, the newest.
    async fn list_parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError>;

    /// Ends the upload: these parts, which are numbered 1, 2, 3 and so on, become one object under a key of the
    /// storage's choosing. No part at all makes an empty object. Doing it again, with the same parts, answers the
    /// same.
    ///
    /// # Errors
    /// [`StorageError::PartUnknown`] when one of them is not there, [`StorageError::PartSize`] when one has a size that
    /// the storage does not take; the upload stays as it was.
    async fn complete_upload(&self, upload: &StorageUpload, parts: &[Part]) -> Result<Object, StorageError>;

    /// Throws the upload away, its completed object included unless it was relocated. It may be gone already.
    async fn abort_upload(&self, upload: &StorageUpload) -> Result<(), StorageError>;

    /// All uploads that were begun and not yet ended, relocated or aborted.
    async fn list_uploads(&self) -> Result<Vec<OpenUpload>, StorageError>;

    /// Makes a completed object one that stays, and gives it the key `wanted` where that is free of cost or the
    /// storage was told to, in place of what may be there. Says under which key it is now: `wanted`, or still `from`.
    /// Durable. Doing it again answers the same.
    async fn relocate(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError>;

    /// The size of an object in bytes; `None` when there is none.
    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError>;

    /// These bytes of an object, exactly `range.len()` of them, which must lie inside it.
    ///
    /// # Errors
    /// [`StorageError::ObjectUnknown`].
    async fn read(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError>;

    /// A URL at which anybody can read the object for `life`; `None` when [`Capabilities::presign`] is off. It
    /// honours `Range`.
    async fn presign_get(&self, key: &ObjectKey, life: Duration) -> Result<Option<Url>, StorageError>;

    /// Removes an object. It may be gone already.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError>;

    /// How much is stored. May read the whole listing: for operators, not for requests.
    async fn usage(&self) -> Result<Usage, StorageError>;

    /// Whether the storage refuses a body that is not the one whose hash was signed with the request, tried out; `None`
    /// where requests have no such hash. For operators: nothing depends on it.
    async fn refuses_other_payload(&self) -> Result<Option<bool>, StorageError> {
        Ok(None)
    }
}

/// What a storage can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Others can send parts to it and read objects of it by signed URLs.
    pub presign: bool,
    /// The least size of a part other than the last, in bytes.
    pub min_part: u64,
    /// The greatest size of a part in bytes, where there is a limit.
    pub max_part: Option<u64>,
    /// The most parts of an upload.
    pub max_parts: u32,
    /// The part size that suits it, in bytes. Some storages take no others but for the last part.
    pub part_size: u64,
    /// Of a part that is sent again, the storage keeps the newest only.
    pub replaces_parts: bool,
}

impl Capabilities {
    /// A storage without limits on the sizes of parts, to which only this process has access.
    pub fn unlimited() -> Self {
        Self {
            presign: false,
            min_part: 0,
            max_part: None,
            max_parts: 1_000_000,
            part_size: 16 * 1024 * 1024,
            replaces_parts: false,
        }
    }

    /// The size of the parts of a blob whose size may be known: the one that suits the storage, or a larger one
    /// where the blob would have too many of them.
    pub fn part_size_for(&self, blob: Option<u64>) -> u64 {
        const STEP: u64 = 1024 * 1024;
        let least = blob.map_or(0, |size| size.div_ceil(u64::from(self.max_parts.max(1))));
        let wanted = self.part_size.max(least.div_ceil(STEP).saturating_mul(STEP));
        self.max_part.map_or(wanted, |most| wanted.min(most))
    }
}

/// The name of an upload, given by the storage. At most 1,024 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorageUpload(pub String);

impl fmt::Display for StorageUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The receipt for a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// Its size in bytes.
    pub size: u64,
    /// The storage's name for these bytes under this number, without quotes.
    pub etag: String,
}

/// An ETag without its quotes, which some clients leave out.
pub(crate) fn bare(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
}

/// An upload that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its name.
    pub upload: StorageUpload,
    /// When it was begun.
    pub started: Timestamp,
}

/// A request that is good without further proof of who sends it.
#[derive(Clone)]
pub struct SignedRequest {
    /// The HTTP method.
    pub method: Method,
    /// The address. A secret while it is good.
    pub url: Url,
    /// Headers to be sent exactly so.
    pub headers: HeaderMap,
    /// The ETag of the part, where the answer will have none.
    pub etag: Option<String>,
}

impl Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// How much a storage holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects, without uploads that go on.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a storage could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no such upload: it has ended, or never was.
    #[error("the storage has no upload {0}")]
    UploadUnknown(StorageUpload),
    /// The upload has no such part.
    #[error("the storage has no part {number} with ETag {etag:?}")]
    PartUnknown {
        /// Its number.
        number: PartNumber,
        /// The ETag that was named.
        etag: String,
    },
    /// A part has a size that the storage does not take.
    #[error("a part of {size} bytes is not one that the storage takes: {limit}")]
    PartSize {
        /// Its size in bytes.
        size: u64,
        /// What it takes.
        limit: String,
    },
    /// There is no such object.
    #[error("the storage has no object {0}")]
    ObjectUnknown(ObjectKey),
    /// The body of a part ended early, or had another size than was said.
    #[error("the body of the part was cut off")]
    Body(#[source] Source),
    /// There is no room left. What was stored before is whole.
    #[error("there is no room left in the storage")]
    Full,
    /// The storage cannot be reached or failed. Trying again may help.
    #[error("the storage failed while {doing}: {source}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What happened.
        #[source]
        source: Source,
    },
}

impl StorageError {
    /// What an I/O error means: [`StorageError::Full`] when the disk or a quota of it is used up.
    pub fn io(doing: impl Into<String>, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failed { doing: doing.into(), source: error.into() },
        }
    }
}
