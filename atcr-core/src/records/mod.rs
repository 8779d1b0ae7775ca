//! The records of `io.atcr.*`: what atcr keeps in the repos of its users and of its holds.
//!
//! Each type reads and writes the JSON form of the data model (specification, Data Model): it can be sent to a PDS
//! over XRPC or mapped into the DAG-CBOR of an embedded one. Every shape that was ever written is read; the newest
//! one is written, with what older readers need. The schemas are in `lexicons/`, and
//! [`lexicon::validate_record`](crate::lexicon::validate_record) checks a value against them.
//!
//! How they read:
//!
//! - `$type` may be missing, but must not name another collection. Unknown fields are ignored.
//! - What identifies a record (repository, tag, digest, member, owner) must be valid, or the record is refused.
//! - What does not (times, hints, optional fields) never makes an image unreadable: a required time that cannot be
//!   read becomes the Unix epoch, an optional field that cannot be read counts as absent. The exception is a field
//!   that takes a right away, such as the `expiresAt` of an old crew record: that must be readable.
//!
//! ```
//! use atcr_core::records::{Record, TagRecord};
//!
//! let tag: TagRecord = serde_json::from_value(serde_json::json!({
//!     "$type": "io.atcr.tag",
//!     "repository": "app",
//!     "tag": "latest",
//!     "manifestDigest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
//!     "createdAt": "2025-12-01T00:00:00Z",
//! }))?;
//! assert_eq!(TagRecord::collection().as_str(), "io.atcr.tag");
//! assert!(tag.manifest_digest().is_some());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod captain;
mod crew;
pub mod data;
mod hold;
mod layer;
mod lenient;
mod manifest;
mod open_enum;
mod profile;
mod repo_page;
mod rkey;
mod scan;
mod star;
mod stats;
mod tag;
#[cfg(test)]
mod tests;
mod typed;
mod webhook;

pub use captain::CaptainRecord;
pub use crew::{AnyCrewRecord, CrewRecord, LegacyCrewRecord, LegacyMember, Permission, Permissions, Role};
pub use data::{BlobRef, BytesField, CidLink};
pub use hold::HoldRecord;
pub use layer::LayerRecord;
pub use manifest::{
    BlobReference, MAX_INLINE_MANIFEST, ManifestRecord, ManifestReference, PlatformFields, Rebuilt,
    RecordError,
};
pub(crate) use open_enum::open_enum;
pub use profile::{OciClient, ProfileRecord};
pub use repo_page::RepoPageRecord;
pub use rkey::{crew_rkey, manifest_rkey, page_rkey, scan_rkey, star_rkey, stats_rkey, tag_rkey};
pub use scan::{ScanRecord, ScanStatus, SeverityCounts};
pub use star::{StarRecord, StarSubject};
pub use stats::StatsRecord;
pub use tag::TagRecord;
pub use webhook::{WebhookRecord, WebhookTriggers};

use crate::syntax::{AtUri, Did, Nsid, RecordKey};

/// A type of record: one collection of a repo.
pub trait Record: serde::Serialize + serde::de::DeserializeOwned {
    /// The NSID of the collection, which is also the record's `$type`.
    const NSID: &'static str;

    /// The collection, parsed.
    fn collection() -> Nsid {
        Self::NSID.parse().expect("the NSIDs of this crate are valid")
    }

    /// The URI of the record with this key in the repo of `owner`.
    fn uri(owner: &Did, rkey: &RecordKey) -> AtUri {
        AtUri::record(owner.clone(), &Self::collection(), rkey)
    }
}
