use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::data::{BlobRef, BytesField};
use super::lenient;
use super::typed::record;
use crate::oci::{Descriptor, Digest, Manifest, ManifestContent, MediaType, Platform, RepositoryName};
use crate::syntax::{Datetime, Did, RecordKey};

/// The largest manifest that is also kept inside its record, in bytes.
pub const MAX_INLINE_MANIFEST: usize = 64 * 1024;

/// How many bytes of annotations a record repeats; the manifest itself has them all.
const MAX_ANNOTATIONS: usize = 32 * 1024;
/// How large a record may become without the inline manifest; PDSes take some 1 MB.
const MAX_FIELDS: usize = 512 * 1024;
/// The largest integer of the data model.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The longest media type of the lexicon.
const MAX_MEDIA_TYPE: usize = 128;

record! {
    "io.atcr.manifest";
    /// A manifest in the repo of the owner of the repository, under [`manifest_rkey`](super::manifest_rkey).
    ///
    /// The bytes are the truth: inline in `manifest_bytes`, else in the PDS blob `manifest_blob`. The other fields
    /// repeat what they say for readers that want no second request; records of 2025 have nothing else
    /// ([`ManifestRecord::rebuild`]).
    pub struct ManifestRecord {
        /// The repository, without its owner.
        pub repository: RepositoryName,
        /// The digest of the bytes. A sha512 digest is longer than the published lexicon's 128 bytes.
        pub digest: Digest,
        /// What the manifest was pushed as.
        pub media_type: MediaType,
        /// 2 in practice.
        #[serde(default = "schema_version_2", deserialize_with = "schema_version")]
        pub schema_version: u64,
        /// When it was pushed.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
        /// The hold that has the blobs; read it with [`ManifestRecord::hold`].
        #[serde(default, deserialize_with = "lenient::hold", skip_serializing_if = "Option::is_none")]
        pub hold_did: Option<Did>,
        /// The hold's URL, in records of 2025.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub hold_endpoint: Option<Url>,
        /// The configuration; none in an index.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub config: Option<BlobReference>,
        /// The layers.
        #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub layers: Vec<BlobReference>,
        /// The children, in an index.
        #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "Vec::is_empty")]
        pub manifests: Vec<ManifestReference>,
        /// The manifest that this one refers to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub subject: Option<BlobReference>,
        /// The annotations; not all of them when they are large. Values that are not strings are dropped.
        #[serde(
            default,
            deserialize_with = "lenient::string_map",
            skip_serializing_if = "BTreeMap::is_empty"
        )]
        pub annotations: BTreeMap<String, String>,
        /// The bytes, as a blob of the owner's PDS.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub manifest_blob: Option<BlobRef>,
        /// The bytes themselves, when there are at most [`MAX_INLINE_MANIFEST`]. An addition of atcr.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub manifest_bytes: Option<BytesField>,
        /// Ours: every repository of the owner that the manifest is in, where it is more than the one of `repository`.
        /// The record key is the digest, so they all share the record. See [`ManifestRecord::repositories`].
        #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
        pub repositories: Vec<RepositoryName>,
    }
}

fn schema_version_2() -> u64 {
    2
}

fn schema_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(lenient::option(deserializer)?.unwrap_or(2))
}

/// A blob that a manifest names (`io.atcr.manifest#blobReference`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobReference {
    /// What the blob is; empty in some records of 2025.
    #[serde(default)]
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Where else it can be had.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, deserialize_with = "lenient::string_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A child of an index (`io.atcr.manifest#manifestReference`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestReference {
    /// What the child is.
    #[serde(default)]
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// What the image runs on.
    #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformFields>,
    /// Annotations.
    #[serde(default, deserialize_with = "lenient::string_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on (`io.atcr.manifest#platform`): the fields of [`Platform`] in camel case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformFields {
    /// The CPU architecture.
    #[serde(default)]
    pub architecture: String,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The variant of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system; `os.version` in a manifest.
    #[serde(default, alias = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features the operating system must have; `os.features` in a manifest.
    #[serde(
        default,
        alias = "os.features",
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
}

/// Why a manifest cannot become a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A string is longer than the lexicon allows.
    #[error("{field} of the manifest has {length} bytes; a record holds at most {max}")]
    TooLong {
        /// The field of the manifest.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest that is allowed.
        max: usize,
    },
    /// A size cannot be written in the data model.
    #[error("the manifest gives a size of {0} bytes; a record holds at most 2^53 - 1")]
    Size(u64),
    /// It names so many blobs or manifests that no PDS takes the record.
    #[error("the manifest names so much that its record has {0} bytes; a PDS takes some 1 MB")]
    TooLarge(usize),
}

/// A manifest put together from the fields of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// JSON with the content of the record.
    pub bytes: Bytes,
    /// Whether they are the very bytes that were pushed: they have the record's digest. Otherwise they must not be
    /// served under it.
    pub exact: bool,
}

impl ManifestRecord {
    /// The repositories that the manifest is in: `repository`, and those in our additional list.
    pub fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        std::iter::once(&self.repository)
            .chain(self.repositories.iter().filter(|name| **name != self.repository))
    }

    /// Whether the manifest is in this repository.
    pub fn is_in(&self, repository: &RepositoryName) -> bool {
        self.repositories().any(|name| name == repository)
    }

    /// Puts the manifest into a repository too. `repository` becomes that one: it is where the manifest was pushed to
    /// last, and the only one that other readers know.
    pub fn add_repository(&mut self, repository: &RepositoryName) {
        let mut all: Vec<_> = self.repositories().filter(|name| *name != repository).cloned().collect();
        self.repository = repository.clone();
        if !all.is_empty() {
            all.push(repository.clone());
            all.sort();
        }
        self.repositories = all;
    }

    /// Takes the manifest out of a repository. `false` when it was in no other: then the record must go.
    pub fn remove_repository(&mut self, repository: &RepositoryName) -> bool {
        let mut rest: Vec<_> = self.repositories().filter(|name| *name != repository).cloned().collect();
        let Some(last) = rest.last().cloned() else { return false };
        self.repository = last;
        if rest.len() == 1 {
            rest.clear();
        }
        self.repositories = rest;
        true
    }

    /// The digests of the blobs that the manifest names: config and layers.
    pub fn blob_digests(&self) -> impl Iterator<Item = Digest> {
        self.config.iter().chain(&self.layers).map(|blob| blob.digest)
    }

    /// Whether the exact bytes are at hand, inline or as a blob.
    pub fn has_bytes(&self) -> bool {
        self.manifest_bytes.is_some() || self.manifest_blob.is_some()
    }

    /// The record of a manifest that was pushed, with the bytes inline when they are small enough.
    ///
    /// Annotations are left out where there are more than 32 KiB of them, or where a record cannot hold their key;
    /// so are URLs that are not. Everything else must fit the lexicon.
    pub fn from_manifest(
        repository: RepositoryName,
        manifest: &Manifest,
        content: &ManifestContent,
        hold: Option<Did>,
        created_at: Datetime,
    ) -> Result<Self, RecordError> {
        too_long("mediaType", manifest.media_type.as_str(), MAX_MEDIA_TYPE)?;
        let mut room = MAX_ANNOTATIONS;
        // The manifest's own annotations come first: they are what is shown.
        let annotations = copy_annotations(&content.annotations, &mut room);
        // The record has no place of its own for the `blobs` of the withdrawn artifact manifest; a hold must keep
        // them as it keeps layers.
        let layers = content.layers.iter().chain(&content.blobs);
        let record = Self {
            repository,
            digest: manifest.digest,
            media_type: manifest.media_type.clone(),
            schema_version: if content.schema_version == 0 { 2 } else { content.schema_version },
            created_at,
            hold_did: hold,
            hold_endpoint: None,
            config: content.config.as_ref().map(|d| blob_reference(d, &mut room)).transpose()?,
            layers: layers.map(|d| blob_reference(d, &mut room)).collect::<Result<_, _>>()?,
            manifests: content
                .manifests
                .iter()
                .map(|d| manifest_reference(d, &mut room))
                .collect::<Result<_, _>>()?,
            subject: content.subject.as_ref().map(|d| blob_reference(d, &mut room)).transpose()?,
            annotations,
            manifest_blob: None,
            manifest_bytes: None,
            repositories: Vec::new(),
        };
        if record.schema_version > MAX_INTEGER {
            return Err(RecordError::Size(record.schema_version));
        }
        let size = serde_json::to_vec(&record).map_or(usize::MAX, |json| json.len());
        if size > MAX_FIELDS {
            return Err(RecordError::TooLarge(size));
        }
        let inline = manifest.bytes.len() <= MAX_INLINE_MANIFEST;
        Ok(Self { manifest_bytes: inline.then(|| BytesField(manifest.bytes.clone())), ..record })
    }

    /// The key that atcr writes the record under.
    pub fn rkey(&self) -> RecordKey {
        super::manifest_rkey(&self.digest)
    }

    /// The hold that has the blobs: `holdDid`, else the did:web of the URL in `holdEndpoint`.
    pub fn hold(&self) -> Option<Did> {
        self.hold_did.clone().or_else(|| {
            let url = self.hold_endpoint.as_ref()?;
            if matches!(url.scheme(), "http" | "https") { Did::web_from_url(url) } else { None }
        })
    }

    /// The manifest from the bytes in the record; `None` when there are none or they do not have its digest.
    pub fn inline_manifest(&self) -> Option<Manifest> {
        self.manifest_with(self.manifest_bytes.as_ref()?.0.clone())
    }

    /// The manifest with these bytes, fetched from `manifest_blob`; `None` when they do not have its digest.
    pub fn manifest_with(&self, bytes: Bytes) -> Option<Manifest> {
        let right = Digest::of(self.digest.algorithm(), &bytes) == self.digest;
        right.then(|| Manifest { digest: self.digest, media_type: self.media_type.clone(), bytes })
    }

    /// Puts the manifest together from the fields, for records of 2025 that have no bytes.
    ///
    /// Best effort: the fields do not say how the JSON was laid out, and what the record does not repeat (such as
    /// `artifactType` and unknown fields) is lost. The layouts of the usual clients are tried until one has the
    /// record's digest ([`Rebuilt::exact`]); otherwise the compact one is given.
    pub fn rebuild(&self) -> Rebuilt {
        let document = Document::of(self);
        let has_digest = |bytes: &[u8]| Digest::of(self.digest.algorithm(), bytes) == self.digest;
        // Docker indents by three spaces, most others by two or not at all.
        for indent in [None, Some("   "), Some("  "), Some("    "), Some("\t")] {
            let mut bytes = document.to_json(indent);
            for newline in [false, true] {
                if newline {
                    bytes.push(b'\n');
                }
                if has_digest(&bytes) {
                    return Rebuilt { bytes: bytes.into(), exact: true };
                }
            }
        }
        Rebuilt { bytes: document.to_json(None).into(), exact: false }
    }
}

/// A manifest in the order of fields that Docker and containerd write.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u64,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Descriptor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Document<'a> {
    fn of(record: &'a ManifestRecord) -> Self {
        let media_type = record.media_type.as_str();
        let is_index = matches!(media_type, MediaType::OCI_INDEX | MediaType::DOCKER_LIST)
            || record.config.is_none() && !record.manifests.is_empty();
        // The first records had no media types inside.
        let (config_type, layer_type) = if media_type == MediaType::DOCKER_MANIFEST {
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
        } else {
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        };
        Self {
            schema_version: record.schema_version,
            media_type,
            config: record.config.as_ref().map(|config| config.to_descriptor(config_type)),
            layers: (!is_index)
                .then(|| record.layers.iter().map(|layer| layer.to_descriptor(layer_type)).collect()),
            manifests: is_index.then(|| record.manifests.iter().map(Descriptor::from).collect()),
            subject: record.subject.as_ref().map(|subject| subject.to_descriptor(MediaType::OCI_MANIFEST)),
            annotations: &record.annotations,
        }
    }

    fn to_json(&self, indent: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match indent {
            None => serde_json::to_writer(&mut out, self),
            Some(indent) => {
                let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
                self.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
            }
        };
        written.expect("strings, numbers and maps with string keys are always JSON");
        out
    }
}

impl BlobReference {
    fn to_descriptor(&self, default_type: &str) -> Descriptor {
        let media_type = if self.media_type.is_empty() { default_type } else { &self.media_type };
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest,
            size: self.size,
            urls: self.urls.clone(),
            annotations: self.annotations.clone(),
            artifact_type: None,
            platform: None,
        }
    }
}

impl From<&BlobReference> for Descriptor {
    fn from(reference: &BlobReference) -> Self {
        reference.to_descriptor("")
    }
}

impl From<&ManifestReference> for Descriptor {
    fn from(reference: &ManifestReference) -> Self {
        Self {
            media_type: reference.media_type.clone(),
            digest: reference.digest,
            size: reference.size,
            urls: Vec::new(),
            annotations: reference.annotations.clone(),
            artifact_type: None,
            platform: reference.platform.as_ref().map(Platform::from),
        }
    }
}

impl From<&PlatformFields> for Platform {
    fn from(platform: &PlatformFields) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
        }
    }
}

fn too_long(field: &'static str, text: &str, max: usize) -> Result<(), RecordError> {
    let length = text.len();
    if length > max { Err(RecordError::TooLong { field, length, max }) } else { Ok(()) }
}

fn copy_annotations(from: &BTreeMap<String, String>, room: &mut usize) -> BTreeMap<String, String> {
    let mut copied = BTreeMap::new();
    for (key, value) in from {
        // Names with a dollar sign are the data model's own.
        let cost = key.len() + value.len();
        if key.starts_with('$') || cost > *room {
            continue;
        }
        *room -= cost;
        copied.insert(key.clone(), value.clone());
    }
    copied
}

fn check_descriptor(descriptor: &Descriptor) -> Result<(), RecordError> {
    too_long("the mediaType of a descriptor", &descriptor.media_type, MAX_MEDIA_TYPE)?;
    if descriptor.size > MAX_INTEGER { Err(RecordError::Size(descriptor.size)) } else { Ok(()) }
}

fn blob_reference(descriptor: &Descriptor, room: &mut usize) -> Result<BlobReference, RecordError> {
    check_descriptor(descriptor)?;
    Ok(BlobReference {
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        digest: descriptor.digest,
        urls: descriptor.urls.iter().filter(|url| crate::lexicon::is_uri(url)).cloned().collect(),
        annotations: copy_annotations(&descriptor.annotations, room),
    })
}

fn manifest_reference(descriptor: &Descriptor, room: &mut usize) -> Result<ManifestReference, RecordError> {
    check_descriptor(descriptor)?;
    let platform = descriptor.platform.as_ref().map(platform_fields).transpose()?;
    Ok(ManifestReference {
        media_type: descriptor.media_type.clone(),
        size: descriptor.size,
        digest: descriptor.digest,
        platform,
        annotations: copy_annotations(&descriptor.annotations, room),
    })
}

fn platform_fields(platform: &Platform) -> Result<PlatformFields, RecordError> {
    too_long("platform.architecture", &platform.architecture, 32)?;
    too_long("platform.os", &platform.os, 32)?;
    too_long("platform.variant", platform.variant.as_deref().unwrap_or_default(), 32)?;
    too_long("platform.os.version", platform.os_version.as_deref().unwrap_or_default(), 64)?;
    for feature in &platform.os_features {
        too_long("platform.os.features", feature, 64)?;
    }
    Ok(PlatformFields {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    })
}
