use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::syntax::string_format;

/// A media type without parameters, such as `application/vnd.oci.image.manifest.v1+json`; at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Box<str>);

impl MediaType {
    const FORMAT: &'static str = "media type";

    fn check(text: &str) -> Result<(), &'static str> {
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            _ if text.len() > 255 => Err("longer than 255 bytes"),
            Some((kind, subtype)) if token(kind) && token(subtype) => Ok(()),
            _ => Err("it is not type/subtype"),
        }
    }

    /// Reads a `Content-Type` header value; parameters are dropped.
    pub fn from_content_type(value: &str) -> Result<Self, crate::syntax::SyntaxError> {
        value.split(';').next().unwrap_or_default().trim().parse()
    }

    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

string_format!(MediaType);

/// A manifest exactly as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What it was pushed as.
    pub media_type: MediaType,
    /// The bytes; never re-serialised.
    pub bytes: Bytes,
}

impl Manifest {
    /// Reads the parts that a registry acts on. Unknown fields are ignored, known ones must have their type.
    pub fn content(&self) -> Result<ManifestContent, ManifestError> {
        let content: ManifestContent = serde_json::from_slice(&self.bytes)?;
        if let Some(inside) = &content.media_type
            && inside != self.media_type.as_str()
        {
            return Err(ManifestError::MediaType {
                inside: inside.clone(),
                pushed_as: self.media_type.clone(),
            });
        }
        Ok(content)
    }
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not the JSON of a manifest.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// It says it is something other than what it was pushed as.
    #[error(
        "the manifest says its mediaType is {inside:?} but was pushed as {pushed_as}; send the same Content-Type"
    )]
    MediaType {
        /// The `mediaType` field.
        inside: String,
        /// The `Content-Type` header.
        pushed_as: MediaType,
    },
}

/// The fields of an image manifest, an index, an artifact or a Docker manifest that a registry acts on
/// (image specification). One lenient type for all of them: what a registry must accept is wider than what any one
/// schema describes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestContent {
    /// 2 in every manifest in use.
    #[serde(default)]
    pub schema_version: u64,
    /// What it says it is.
    pub media_type: Option<String>,
    /// What an artifact is.
    pub artifact_type: Option<String>,
    /// The configuration, in an image.
    pub config: Option<Descriptor>,
    /// The layers, in an image.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub layers: Vec<Descriptor>,
    /// The blobs of the withdrawn artifact manifest.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub blobs: Vec<Descriptor>,
    /// The children, in an index.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Go clients write an absent list as `null`.
fn null_as_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ManifestContent {
    /// The blobs that must be in the repository before the manifest: config and layers, but not those that are
    /// fetched from elsewhere (`urls`).
    pub fn required_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).chain(&self.blobs).filter(|d| !d.is_foreign())
    }

    /// Whether it is an index: it lists other manifests.
    pub fn is_index(&self) -> bool {
        self.config.is_none() && self.layers.is_empty() && !self.manifests.is_empty()
            || matches!(self.media_type.as_deref(), Some(MediaType::OCI_INDEX | MediaType::DOCKER_LIST))
    }

    /// The artifact type shown in a referrers list: its own, else the media type of its config.
    pub fn effective_artifact_type(&self) -> Option<&str> {
        let own = self.artifact_type.as_deref().filter(|t| !t.is_empty());
        own.or_else(|| self.config.as_ref().map(|config| &*config.media_type))
    }
}

/// A reference to some content (image specification, Descriptor).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it can be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an artifact is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What the image in an index runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Whether it is a layer that need not be in the registry.
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains(".nondistributable.")
            || self.media_type.contains(".foreign.")
    }
}

/// What an image runs on (image specification, Image Index).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture, in Go's names.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, in Go's names.
    #[serde(default)]
    pub os: String,
    /// The version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features the operating system must have.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: &str) -> Manifest {
        let bytes = Bytes::copy_from_slice(json.as_bytes());
        Manifest {
            digest: Digest::sha256(&bytes),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            bytes,
        }
    }

    #[test]
    fn null_lists_and_unknown_fields_are_read() {
        let content =
            manifest(r#"{"schemaVersion":2,"layers":null,"annotations":null,"x":[1.5]}"#).content().unwrap();
        assert!(content.layers.is_empty() && content.config.is_none());
    }

    #[test]
    fn a_media_type_that_contradicts_the_header_is_refused() {
        let error = manifest(r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#);
        assert!(matches!(error.content(), Err(ManifestError::MediaType { .. })));
    }

    #[test]
    fn foreign_layers_are_not_required() {
        let d = Digest::sha256(b"x");
        let json = format!(
            r#"{{"layers":[{{"mediaType":"a/b","digest":"{d}","size":1}},
                {{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{d}","size":1}},
                {{"mediaType":"a/b","digest":"{d}","size":1,"urls":["https://example.com/x"]}}]}}"#
        );
        assert_eq!(manifest(&json).content().unwrap().required_blobs().count(), 1);
    }
}
