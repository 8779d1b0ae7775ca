use serde::{Deserialize, Serialize};

use super::{Nothing, method, null_is_default};
use crate::oci::{Digest, RepositoryName};
use crate::records::{Permissions, Role};
use crate::syntax::{AtUri, Datetime, Did};

method! {
    /// Everything that the hold knows about the caller.
    ExportUserData, "io.atcr.hold.exportUserData", Query,
    (Nothing, Nothing) -> ExportUserDataOutput, [AUTH_REQUIRED]
}

method! {
    /// Deletes the hold's records about the caller. The blobs go when nothing refers to them any more.
    DeleteUserData, "io.atcr.hold.deleteUserData", Procedure,
    (Nothing, Nothing) -> DeleteUserDataOutput, [AUTH_REQUIRED, DELETION_FAILED]
}

/// Output of [`ExportUserData`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportUserDataOutput {
    /// When.
    pub exported_at: Datetime,
    /// By which hold.
    pub hold_did: Did,
    /// About whom.
    pub user_did: Did,
    /// Whether they own the hold.
    #[serde(default)]
    pub is_captain: bool,
    /// Their layer records.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layer_records: Vec<ExportedLayer>,
    /// The counters of their repositories.
    #[serde(default, deserialize_with = "null_is_default")]
    pub stats_records: Vec<ExportedStats>,
    /// What the hold has posted about them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub bluesky_posts: Vec<ExportedPost>,
    /// Their crew record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crew_record: Option<ExportedCrew>,
}

/// A layer record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedLayer {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// The record of the manifest; absent where the layer record does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<AtUri>,
    /// When it was pushed.
    pub created_at: Datetime,
}

/// The counters of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedStats {
    /// The repository.
    pub repository: RepositoryName,
    /// Pulls.
    #[serde(default)]
    pub pull_count: u64,
    /// Pushes.
    #[serde(default)]
    pub push_count: u64,
    /// The last pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pull: Option<Datetime>,
    /// The last push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_push: Option<Datetime>,
    /// When the record was last written.
    pub updated_at: Datetime,
}

/// A post of the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedPost {
    /// The record.
    pub uri: AtUri,
    /// Its text.
    #[serde(default)]
    pub text: String,
    /// When.
    pub created_at: Datetime,
}

/// A crew record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedCrew {
    /// The role.
    pub role: Role,
    /// The permissions.
    pub permissions: Permissions,
    /// The tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Since when.
    pub added_at: Datetime,
}

/// Output of [`DeleteUserData`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteUserDataOutput {
    /// Whether it was done.
    pub success: bool,
    /// Whether a crew record is gone; never the captain's.
    #[serde(default)]
    pub crew_deleted: bool,
    /// How many layer records are gone.
    #[serde(default)]
    pub layers_deleted: u64,
    /// How many stats records are gone.
    #[serde(default)]
    pub stats_deleted: u64,
}
