use serde::{Deserialize, Serialize};

use super::{Nothing, method, null_is_default};
use crate::oci::{Descriptor, Digest, Manifest, ManifestContent, RepositoryName, Tag};
use crate::records::{LayerRecord, open_enum};
use crate::syntax::{AtUri, Did, Handle};

method! {
    /// Tells the hold that a manifest was pushed to or pulled from the owner's repository: the hold keeps layer
    /// records, judges the quota and counts.
    NotifyManifest, "io.atcr.hold.notifyManifest", Procedure,
    (Nothing, NotifyManifestInput) -> NotifyManifestOutput, [INVALID_OPERATION, USER_MISMATCH, QUOTA_EXCEEDED]
}

method! {
    /// The layer records of a manifest.
    GetLayersForManifest, "io.atcr.hold.getLayersForManifest", Query,
    (GetLayersForManifestParams, Nothing) -> GetLayersForManifestOutput, []
}

/// Input of [`NotifyManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyManifestInput {
    /// The repository, without its owner.
    pub repository: RepositoryName,
    /// The owner.
    pub user_did: Did,
    /// The digest of the manifest.
    pub manifest_digest: Digest,
    /// What it names.
    pub manifest: NotifiedManifest,
    /// The tag, when it was pushed under one; a post needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// What happened.
    #[serde(default)]
    pub operation: Operation,
    /// The owner's handle, which holds of 2025 asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_handle: Option<Handle>,
}

open_enum! {
    /// What happened to a manifest. A hold refuses another one with `InvalidOperation`.
    #[derive(Default)]
    pub enum Operation {
        /// It was pushed.
        #[default]
        Push = "push",
        /// It was pulled.
        Pull = "pull",
    }
}

/// What a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifiedManifest {
    /// The media type of the manifest.
    #[serde(default)]
    pub media_type: String,
    /// The configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<NotifiedBlob>,
    /// The layers.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<NotifiedLayer>,
    /// The children, in an index.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<NotifiedChild>,
}

impl NotifiedManifest {
    /// What this manifest names. Layers that are fetched from elsewhere are none of the hold's.
    pub fn new(manifest: &Manifest, content: &ManifestContent) -> Self {
        let layers = content.layers.iter().chain(&content.blobs).filter(|layer| !layer.is_foreign());
        Self {
            media_type: manifest.media_type.as_str().to_owned(),
            config: content
                .config
                .as_ref()
                .map(|config| NotifiedBlob { digest: config.digest, size: config.size }),
            layers: layers.map(NotifiedLayer::from).collect(),
            manifests: content.manifests.iter().map(NotifiedChild::from).collect(),
        }
    }
}

/// A blob by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifiedLayer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is, in at most 256 bytes.
    #[serde(default)]
    pub media_type: String,
}

impl From<&Descriptor> for NotifiedLayer {
    fn from(layer: &Descriptor) -> Self {
        Self { digest: layer.digest, size: layer.size, media_type: layer.media_type.clone() }
    }
}

/// A child of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifiedChild {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<NotifiedPlatform>,
}

impl From<&Descriptor> for NotifiedChild {
    fn from(child: &Descriptor) -> Self {
        Self {
            digest: child.digest,
            size: child.size,
            media_type: child.media_type.clone(),
            platform: child.platform.as_ref().map(|platform| NotifiedPlatform {
                os: platform.os.clone(),
                architecture: platform.architecture.clone(),
            }),
        }
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedPlatform {
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The CPU architecture.
    #[serde(default)]
    pub architecture: String,
}

/// Output of [`NotifyManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyManifestOutput {
    /// Whether it was done.
    pub success: bool,
    /// What was done.
    #[serde(default)]
    pub operation: Operation,
    /// Whether the counters went up.
    #[serde(default)]
    pub stats_updated: bool,
    /// How many layer records are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_created: Option<u64>,
    /// Whether the hold posted about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_created: Option<bool>,
    /// The post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_uri: Option<AtUri>,
}

/// Parameters of [`GetLayersForManifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLayersForManifestParams {
    /// The record of the manifest.
    pub manifest: AtUri,
}

/// Output of [`GetLayersForManifest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetLayersForManifestOutput {
    /// The records.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<LayerRecord>,
}
