//! Rows, and what they mean.

use atcr_core::oci::Digest;
use jiff::Timestamp;

use super::{ManifestEntry, RepositoryEntry};
use crate::index::IndexError;
use crate::index::lookup::{digest_of, unsigned};

pub(super) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, IndexError> {
    text.parse().map_err(IndexError::corrupt)
}

pub(super) fn optional<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
    text.and_then(|text| text.parse().ok())
}

pub(super) fn digest(bytes: Option<Vec<u8>>) -> Result<Option<Digest>, IndexError> {
    bytes.map(|bytes| digest_of(&bytes)).transpose()
}

/// What a [`RepositoryEntry`] is made of; after it comes what the list is sorted by.
macro_rules! repository_columns {
    () => {
        "SELECT r.id, o.did, o.handle, r.name, r.last_push, r.stars, r.pulls, r.pushes, r.description, r.avatar, \
         r.avatar_type FROM repositories r JOIN repos o ON o.id = r.repo WHERE o.status = 'active' AND r.last_push > 0 "
    };
}
pub(super) type RepositoryRow =
    (i64, String, Option<String>, String, i64, i64, i64, i64, Option<String>, Option<String>, Option<String>);

pub(super) fn repository(row: RepositoryRow) -> Result<(i64, RepositoryEntry), IndexError> {
    let (id, owner, handle, name, last_push, stars, pulls, pushes, description, avatar, avatar_type) = row;
    let entry = RepositoryEntry {
        owner: parsed(&owner)?,
        handle: optional(handle),
        name: parsed(&name)?,
        last_push: moment(last_push),
        stars: unsigned(stars),
        pulls: unsigned(pulls),
        pushes: unsigned(pushes),
        description,
        avatar: avatar.zip(avatar_type),
    };
    Ok((id, entry))
}

macro_rules! manifest_columns {
    () => {
        "SELECT m.id, m.rkey, m.digest, m.media_type, m.artifact_type, m.size, m.created_at, m.hold, m.subject, \
         m.annotations, m.content_size, m.layer_count FROM manifests m "
    };
}
pub(super) type ManifestRow = (
    i64,
    String,
    Vec<u8>,
    String,
    Option<String>,
    Option<i64>,
    i64,
    Option<String>,
    Option<Vec<u8>>,
    String,
    i64,
    i64,
);

pub(super) fn manifest(row: ManifestRow) -> Result<ManifestEntry, IndexError> {
    let (
        id,
        rkey,
        own,
        media_type,
        artifact_type,
        size,
        created_at,
        hold,
        subject,
        annotations,
        content,
        layers,
    ) = row;
    Ok(ManifestEntry {
        id,
        rkey,
        digest: digest_of(&own)?,
        media_type: parsed(&media_type)?,
        artifact_type,
        size: size.map(unsigned),
        created_at: moment(created_at),
        hold: optional(hold),
        subject: digest(subject)?,
        annotations: serde_json::from_str(&annotations).unwrap_or_default(),
        content_size: unsigned(content),
        layer_count: unsigned(layers),
    })
}

pub(super) use {manifest_columns, repository_columns};
