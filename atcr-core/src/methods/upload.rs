use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Nothing, method, null_is_default};
use crate::oci::{Algorithm, Digest, RepositoryName};
use crate::records::open_enum;
use crate::syntax::string_format;

method! {
    /// Begins the upload of a blob.
    InitiateUpload, "io.atcr.hold.initiateUpload", Procedure,
    (Nothing, InitiateUploadInput) -> InitiateUploadOutput, [INVALID_DIGEST]
}

method! {
    /// Asks where to send one part. The answer says everything about the request; its URL may be the storage's or
    /// the hold's own.
    GetPartUploadUrl, "io.atcr.hold.getPartUploadUrl", Procedure,
    (Nothing, GetPartUploadUrlInput) -> GetPartUploadUrlOutput, [INVALID_UPLOAD_ID, INVALID_PART_NUMBER]
}

method! {
    /// Takes one part as raw bytes, sent with PUT and the headers [`UPLOAD_ID_HEADER`] and [`PART_NUMBER_HEADER`].
    ///
    /// Withdrawn in April 2026. An old hold gives its URL as that of a part, so a client that does what
    /// [`GetPartUploadUrl`] says needs to know nothing about it.
    UploadPart, "io.atcr.hold.uploadPart", Procedure,
    (Nothing, Bytes) -> UploadPartOutput, [INVALID_UPLOAD_ID, INVALID_PART_NUMBER, UPLOAD_FAILED]
}

method! {
    /// Ends an upload: the blob exists afterwards.
    CompleteUpload, "io.atcr.hold.completeUpload", Procedure,
    (Nothing, CompleteUploadInput) -> CompleteUploadOutput,
    [INVALID_UPLOAD_ID, INVALID_DIGEST, MISSING_PARTS, COMPLETION_FAILED]
}

method! {
    /// Gives an upload up.
    AbortUpload, "io.atcr.hold.abortUpload", Procedure,
    (Nothing, AbortUploadInput) -> AbortUploadOutput, [INVALID_UPLOAD_ID, ABORT_FAILED]
}

/// The header of [`UploadPart`] with the upload.
pub const UPLOAD_ID_HEADER: &str = "x-upload-id";
/// The header of [`UploadPart`] with the number of the part.
pub const PART_NUMBER_HEADER: &str = "x-part-number";

/// What the hold calls an upload: 1 to 256 visible ASCII characters that mean nothing to anyone else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(Box<str>);

impl UploadId {
    const FORMAT: &'static str = "upload id";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() || text.len() > 256 {
            return Err("an upload id has 1 to 256 bytes");
        }
        // It travels in a header.
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(())
        } else {
            Err("it has a character that is not visible ASCII")
        }
    }
}

string_format!(UploadId);

/// What an upload is begun under, 1 to 128 bytes: the digest of the blob where it is known, else any name, such as
/// `uploads/temp-1234`. A sha512 digest is too long and goes under a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadName(Box<str>);

impl UploadName {
    const FORMAT: &'static str = "upload name";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() || text.len() > 128 {
            return Err("the name of an upload has 1 to 128 bytes");
        }
        if text.chars().any(char::is_control) { Err("it has a control character") } else { Ok(()) }
    }

    /// The digest that the content will have, if the name is one.
    pub fn digest(&self) -> Option<Digest> {
        self.0.parse().ok()
    }
}

string_format!(UploadName);

/// Input of [`InitiateUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitiateUploadInput {
    /// The digest of the blob, or a temporary name.
    pub digest: UploadName,
    /// The size of the blob in bytes, where it is known. An addition of atcr: the hold checks the quota by it before
    /// a byte is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What the blob will be hashed with, where that is known before its digest. An addition of atcr; absent is
    /// sha256.
    #[serde(default, with = "algorithm", skip_serializing_if = "Option::is_none")]
    pub digest_algorithm: Option<Algorithm>,
    /// The caller's repository that it is for, without its owner. An addition of atcr: a blob that is uploaded for
    /// repositories can be deleted from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
}

mod algorithm {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::oci::Algorithm;

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(algorithm: &Option<Algorithm>, s: S) -> Result<S::Ok, S::Error> {
        algorithm.map(Algorithm::as_str).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Algorithm>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| text.parse()).transpose().map_err(serde::de::Error::custom)
    }
}

/// Output of [`InitiateUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitiateUploadOutput {
    /// The upload, for every further call.
    pub upload_id: UploadId,
    /// How many bytes every part but the last should have. An addition of atcr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_size: Option<u64>,
    /// What this hold can do beyond the published protocol. An addition of atcr; absent is nothing.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
}

open_enum! {
    /// Something that a hold can do beyond the published upload protocol.
    pub enum Capability {
        /// A part may have any length and be sent in chunked transfer coding.
        PartsAnySize = "parts:any-size",
        /// The hold remembers the parts: [`CompleteUploadInput::parts`] may be empty.
        PartsRecorded = "parts:recorded",
        /// [`GetPartUploadUrlInput::count`] gives the requests of several parts in one call.
        PartsBatch = "parts:batch",
        /// The hold keeps the beginning of a part until the part is whole: [`GetPartUploadUrlInput::offset`] and
        /// [`GetPartUploadUrlInput::more`].
        PartsTail = "parts:tail",
        /// The hold hashes the content and refuses to complete an upload that does not have its digest.
        DigestVerified = "digest:verified",
    }
}

/// What a hold can do beyond the published upload protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Whether the hold has said so.
    pub fn contains(&self, capability: &Capability) -> bool {
        self.0.contains(capability)
    }

    /// Whether it has said nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

/// Input of [`GetPartUploadUrl`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetPartUploadUrlInput {
    /// The upload.
    pub upload_id: UploadId,
    /// The number of the part, from 1.
    pub part_number: NonZeroU32,
    /// How many bytes it will have, where that is known. An addition of atcr: the hold checks the quota by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How many parts, this one and those after it, are asked for at once; `size` is that of each. An addition of
    /// atcr, for holds with [`Capability::PartsBatch`]; they may give fewer, and at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroU32>,
    /// The bytes that will be sent come after so many of this part that the hold keeps. An addition of atcr, for holds
    /// with [`Capability::PartsTail`]; `size` is that of the whole part up to the end of what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The part is not whole with them: the hold keeps what is there, and more is sent later. An addition of atcr, as
    /// above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Output of [`GetPartUploadUrl`]: the request to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetPartUploadUrlOutput {
    /// Where to send the bytes.
    pub url: Url,
    /// With which HTTP method.
    #[serde(default)]
    pub method: PartMethod,
    /// With which headers, and no others that matter.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The part's entity tag, where the answer to the request will have none. An addition of atcr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The requests of the parts that follow, in order, where several were asked for. An addition of atcr.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub following: Vec<PartUploadRequest>,
}

/// The request that sends a part: as in [`GetPartUploadUrlOutput`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartUploadRequest {
    /// Where to send the bytes.
    pub url: Url,
    /// With which HTTP method.
    #[serde(default)]
    pub method: PartMethod,
    /// With which headers, and no others that matter.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The part's entity tag, where the answer to the request will have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// The HTTP method that sends a part. Storage takes no other; a hold that names one is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PartMethod {
    /// PUT.
    #[default]
    Put,
    /// POST.
    Post,
}

impl PartMethod {
    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// Output of [`UploadPart`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPartOutput {
    /// The part's entity tag, at most 256 bytes.
    pub etag: String,
}

/// Input of [`CompleteUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteUploadInput {
    /// The upload.
    pub upload_id: UploadId,
    /// The digest of the whole blob.
    pub digest: Digest,
    /// The parts, in order. Empty where the hold has [`Capability::PartsRecorded`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub parts: Vec<CompletedPart>,
}

/// A part that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletedPart {
    /// Its number, from 1.
    pub part_number: NonZeroU32,
    /// Its entity tag as it was given, at most 256 bytes. Clients send it with and without quotes.
    pub etag: String,
}

impl CompletedPart {
    /// The entity tag without the quotes around it.
    pub fn bare_etag(&self) -> &str {
        let tag = self.etag.trim();
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
    }
}

/// Output of [`CompleteUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteUploadOutput {
    /// That it is done.
    pub status: CompleteUploadStatus,
    /// The digest of the blob.
    pub digest: Digest,
}

/// The only status of a completed upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompleteUploadStatus {
    /// The blob exists.
    Completed,
}

/// Input of [`AbortUpload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbortUploadInput {
    /// The upload.
    pub upload_id: UploadId,
}

/// Output of [`AbortUpload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortUploadOutput {
    /// That it is done.
    pub status: AbortUploadStatus,
}

/// The only status of an upload given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbortUploadStatus {
    /// Its parts are gone.
    Aborted,
}
