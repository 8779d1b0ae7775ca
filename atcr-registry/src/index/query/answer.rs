//! What the queries answer.

use std::collections::BTreeMap;

use atcr_core::oci::{Digest, MediaType, RepositoryName, Tag};
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::{Did, Handle};
use jiff::Timestamp;

/// A repository, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositoryEntry {
    /// Its owner.
    pub owner: Did,
    /// The owner's handle.
    pub handle: Option<Handle>,
    /// Its name, without the owner.
    pub name: RepositoryName,
    /// When something was last pushed to it, as its records say.
    pub last_push: Timestamp,
    /// Accounts that starred it.
    pub stars: u64,
    /// Pulls, as the holds count them.
    pub pulls: u64,
    /// Pushes, as the holds count them.
    pub pushes: u64,
    /// Its description: Markdown.
    pub description: Option<String>,
    /// The CID and the media type of its picture, a blob at the owner's PDS.
    pub avatar: Option<(String, String)>,
}

/// A tag, with what it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagEntry {
    /// The tag.
    pub tag: Tag,
    /// The manifest; `None` when the record names none.
    pub digest: Option<Digest>,
    /// When it was last moved, as its record says.
    pub updated_at: Timestamp,
    /// What the manifest was pushed as, when the index has it.
    pub media_type: Option<MediaType>,
    /// What the manifest's blobs have together, in bytes; 0 for an index.
    pub content_size: Option<u64>,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ManifestEntry {
    /// Its number in the index, for [`Index::layers`](crate::index::Index::layers) and
    /// [`Index::children`](crate::index::Index::children).
    pub id: i64,
    /// The key of its record.
    pub rkey: String,
    /// Its digest.
    pub digest: Digest,
    /// What it was pushed as.
    pub media_type: MediaType,
    /// What a referrers list calls it; the media type of the config where nothing else is known.
    pub artifact_type: Option<String>,
    /// Its own length in bytes, where it is known.
    pub size: Option<u64>,
    /// When it was pushed, as its record says.
    pub created_at: Timestamp,
    /// The hold that its record names.
    pub hold: Option<Did>,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What its blobs have together, in bytes.
    pub content_size: u64,
    /// How many layers it has.
    pub layer_count: u64,
}

/// A blob that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// Whether it is the config.
    pub is_config: bool,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
}

/// A manifest that an index names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Child {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
    /// The operating system; empty where the index does not say.
    pub os: String,
    /// The architecture; empty where the index does not say.
    pub architecture: String,
    /// The variant of the architecture; may be empty.
    pub variant: String,
    /// Its annotations: `vnd.docker.reference.type` tells an attestation.
    pub annotations: BTreeMap<String, String>,
}

/// Where a tag has been. The owner's key signed each move: nobody else can move a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagMove {
    /// The tag.
    pub tag: Tag,
    /// Where it pointed from then on; `None` when it was removed.
    pub digest: Option<Digest>,
    /// When, by the revision of the commit that did it.
    pub at: Timestamp,
    /// The revision; for what was there when the index first read the repo, that of the reading.
    pub rev: atcr_core::syntax::Tid,
}

/// Somebody's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// The hold to push to.
    pub default_hold: Option<Did>,
    /// Whether moving a tag deletes the manifest that has no tag left.
    pub auto_remove_untagged: bool,
    /// The client whose commands are shown.
    pub oci_client: Option<String>,
    /// The registry domain that is shown.
    pub registry_domain: Option<String>,
}

/// Who owns a hold and how it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Captain {
    /// The owner.
    pub owner: Did,
    /// Whether anyone may read.
    pub public: bool,
    /// Whether any account may enrol as crew.
    pub allow_all_crew: bool,
    /// Where its storage is.
    pub region: Option<String>,
    /// The hold that it has moved to.
    pub successor: Option<Did>,
}

/// A member of a hold's crew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrewMember {
    /// Who.
    pub member: Did,
    /// Their handle.
    pub handle: Option<Handle>,
    /// What they are called.
    pub role: String,
    /// What they may do.
    pub permissions: Vec<String>,
    /// The quota tier.
    pub tier: Option<String>,
}

/// What an account is to a hold, the closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldRelation {
    /// It owns it.
    Captain,
    /// It is of its crew.
    Crew,
    /// It may enrol.
    Open,
}

/// A hold that an account can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldChoice {
    /// The hold.
    pub hold: Did,
    /// What the account is to it.
    pub relation: HoldRelation,
    /// How it is open.
    pub captain: Captain,
}

/// What a scanner found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scan {
    /// The hold that says so.
    pub hold: Did,
    /// How many vulnerabilities.
    pub counts: SeverityCounts,
    /// `ok`, `failed`, `skipped`, or a word that is newer than this program.
    pub status: String,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// The scanner.
    pub scanner: String,
    /// When.
    pub scanned_at: Timestamp,
    /// The CID of the bill of materials, a blob of the hold.
    pub sbom: Option<String>,
    /// The CID of the list of vulnerabilities, a blob of the hold.
    pub report: Option<String>,
}
