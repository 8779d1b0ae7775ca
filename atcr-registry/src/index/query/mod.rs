//! The questions that pages ask.

mod answer;
mod events;
mod holds;
mod manifests;
mod repositories;
mod row;
mod tags;

pub use answer::{
    Captain, Child, CrewMember, HoldChoice, HoldRelation, Layer, ManifestEntry, Profile, RepositoryEntry,
    Scan, TagEntry, TagMove,
};
pub use events::{RecentMove, RecentScan};

/// Lists that have no pages end here.
const MOST: i64 = 1000;
