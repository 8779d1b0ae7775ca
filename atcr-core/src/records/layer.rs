use super::lenient;
use super::typed::record;
use crate::oci::{Digest, RepositoryName};
use crate::syntax::{AtUri, Datetime, Did, Handle};

record! {
    "io.atcr.hold.layer";
    /// That a user's manifest holds a blob, in the hold's repo under a TID: one for each manifest and layer, so that a
    /// blob that two manifests share has two.
    pub struct LayerRecord {
        /// The blob.
        pub digest: Digest,
        /// Its size in bytes.
        pub size: u64,
        /// What it is, in at most 128 bytes.
        #[serde(default)]
        pub media_type: String,
        /// The record of the manifest; absent in records before 2026.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub manifest: Option<AtUri>,
        /// Whose manifest.
        pub user_did: Did,
        /// When it was pushed.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
        /// The repository, in records before 2026.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub repository: Option<RepositoryName>,
        /// The user's handle at the time, in records before 2026.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub user_handle: Option<Handle>,
    }
}

impl LayerRecord {
    /// A record in today's shape.
    pub fn new(
        digest: Digest,
        size: u64,
        media_type: impl Into<String>,
        manifest: AtUri,
        user_did: Did,
        now: Datetime,
    ) -> Self {
        Self {
            digest,
            size,
            media_type: media_type.into(),
            manifest: Some(manifest),
            user_did,
            created_at: now,
            repository: None,
            user_handle: None,
        }
    }
}
