//! Rows that wait within a transaction for others of their kind.
//!
//! Nothing reads them from the database until they are written: whoever reads or deletes from these tables calls
//! [`Writing::flush`] first, unless it is certain that what it looks for does not wait.

use std::collections::{HashMap, HashSet};

use atcr_core::oci::Digest;
use bytes::Bytes;

use super::IndexError;
use super::apply::Writing;
use super::rows;

/// So many bytes wait, about; then they are written.
const MOST: usize = 1 << 20;
/// What a row counts for beside its texts.
const ROW: usize = 200;

/// A place of a record: the number of its repo, the code of its collection, its key.
pub(super) type Place = (i64, i64, String);

#[derive(Default)]
pub(super) struct Pending {
    manifests: Vec<ManifestRow>,
    bodies: Vec<(Digest, Bytes)>,
    tags: Vec<TagRow>,
    hold_layers: Vec<HoldLayerRow>,
    /// The places of the records that these are of.
    places: HashSet<Place>,
    /// About what they take in memory.
    bytes: usize,
}

pub(super) struct ManifestRow {
    pub(super) repo: i64,
    pub(super) rkey: String,
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) artifact_type: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) created_at: i64,
    pub(super) hold: Option<String>,
    pub(super) subject: Option<Digest>,
    pub(super) annotations: String,
    pub(super) content_size: i64,
    pub(super) layer_count: i64,
    pub(super) pds_blob: Option<String>,
    /// The numbers of the repositories that have it.
    pub(super) repositories: Vec<i64>,
    pub(super) layers: Vec<LayerRow>,
    pub(super) children: Vec<ChildRow>,
}

pub(super) struct LayerRow {
    pub(super) position: i64,
    pub(super) digest: Digest,
    pub(super) size: i64,
    pub(super) media_type: String,
}

pub(super) struct ChildRow {
    pub(super) position: i64,
    pub(super) digest: Digest,
    pub(super) size: i64,
    pub(super) media_type: String,
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) annotations: String,
}

pub(super) struct TagRow {
    pub(super) repo: i64,
    pub(super) rkey: String,
    pub(super) repository: i64,
    pub(super) tag: String,
    pub(super) digest: Option<Digest>,
    pub(super) media_type: Option<String>,
    pub(super) updated_at: i64,
    pub(super) usual: i64,
}

pub(super) struct HoldLayerRow {
    pub(super) repo: i64,
    pub(super) rkey: String,
    pub(super) digest: Digest,
    pub(super) owner: String,
    pub(super) size: i64,
}

impl Pending {
    pub(super) fn manifest(&mut self, place: Place, row: ManifestRow) {
        let rows = 2 + row.repositories.len() + row.layers.len();
        let children: usize = row.children.iter().map(|child| ROW + child.annotations.len()).sum();
        self.bytes += rows * ROW + row.annotations.len() + children;
        self.places.insert(place);
        self.manifests.push(row);
    }

    pub(super) fn body(&mut self, digest: Digest, bytes: Bytes) {
        self.bytes += ROW + bytes.len();
        self.bodies.push((digest, bytes));
    }

    pub(super) fn tag(&mut self, place: Place, row: TagRow) {
        self.bytes += 2 * ROW;
        self.places.insert(place);
        self.tags.push(row);
    }

    pub(super) fn hold_layer(&mut self, place: Place, row: HoldLayerRow) {
        self.bytes += 2 * ROW;
        self.places.insert(place);
        self.hold_layers.push(row);
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.places.contains(place)
    }

    pub(super) fn has_manifests(&self) -> bool {
        !self.manifests.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST
    }
}

impl Writing {
    /// Writes the rows that wait, and where tags have moved by the commits that are through.
    pub(super) async fn flush(&mut self) -> Result<(), IndexError> {
        let Pending { manifests, bodies, tags, hold_layers, .. } = std::mem::take(&mut self.pending);
        self.write_manifests(&manifests).await?;
        self.write_bodies(bodies).await?;
        let insert = "INSERT INTO tags (repo, rkey, repository, tag, digest, media_type, updated_at, usual) VALUES {rows}";
        rows::write(&mut self.tx, self.dialect, (insert, 8), &tags, |query, row| {
            query
                .bind(row.repo)
                .bind(row.rkey.as_str())
                .bind(row.repository)
                .bind(row.tag.as_str())
                .bind(row.digest.as_ref().map(Digest::as_bytes))
                .bind(row.media_type.as_deref())
                .bind(row.updated_at)
                .bind(row.usual)
        })
        .await?;
        let insert = "INSERT INTO hold_layers (repo, rkey, digest, owner, size) VALUES {rows}";
        rows::write(&mut self.tx, self.dialect, (insert, 5), &hold_layers, |query, row| {
            query
                .bind(row.repo)
                .bind(row.rkey.as_str())
                .bind(row.digest.as_bytes())
                .bind(row.owner.as_str())
                .bind(row.size)
        })
        .await?;
        self.tag_history().await
    }

    async fn write_manifests(&mut self, manifests: &[ManifestRow]) -> Result<(), IndexError> {
        let insert = "INSERT INTO manifests (repo, rkey, digest, media_type, artifact_type, size, created_at, hold, \
             subject, annotations, content_size, layer_count, pds_blob) VALUES {rows} RETURNING repo, rkey, id";
        let made: Vec<(i64, String, i64)> =
            rows::read(&mut self.tx, self.dialect, (insert, 13), manifests, |query, row| {
                query
                    .bind(row.repo)
                    .bind(row.rkey.as_str())
                    .bind(row.digest.as_bytes())
                    .bind(row.media_type.as_str())
                    .bind(row.artifact_type.as_deref())
                    .bind(row.size)
                    .bind(row.created_at)
                    .bind(row.hold.as_deref())
                    .bind(row.subject.as_ref().map(Digest::as_bytes))
                    .bind(row.annotations.as_str())
                    .bind(row.content_size)
                    .bind(row.layer_count)
                    .bind(row.pds_blob.as_deref())
            })
            .await?;
        let numbers: HashMap<(i64, &str), i64> =
            made.iter().map(|(repo, rkey, id)| ((*repo, rkey.as_str()), *id)).collect();
        let (mut of_repositories, mut layers, mut children) = (Vec::new(), Vec::new(), Vec::new());
        for row in manifests {
            let id = numbers.get(&(row.repo, row.rkey.as_str()));
            let id = *id.ok_or_else(|| IndexError::corrupt("a row without a number"))?;
            of_repositories
                .extend(row.repositories.iter().map(|repository| (id, *repository, row.created_at)));
            layers.extend(row.layers.iter().map(|layer| (id, layer)));
            children.extend(row.children.iter().map(|child| (id, child)));
        }
        // A list may name a repository twice.
        let insert = "INSERT INTO manifest_repositories (manifest, repository, created_at) VALUES {rows} \
             ON CONFLICT DO NOTHING";
        rows::write(&mut self.tx, self.dialect, (insert, 3), &of_repositories, |query, row| {
            query.bind(row.0).bind(row.1).bind(row.2)
        })
        .await?;
        let insert = "INSERT INTO layers (manifest, position, digest, size, media_type) VALUES {rows}";
        rows::write(&mut self.tx, self.dialect, (insert, 5), &layers, |query, (manifest, layer)| {
            query
                .bind(*manifest)
                .bind(layer.position)
                .bind(layer.digest.as_bytes())
                .bind(layer.size)
                .bind(layer.media_type.as_str())
        })
        .await?;
        let insert = "INSERT INTO children (manifest, position, digest, size, media_type, os, architecture, variant, \
             annotations) VALUES {rows}";
        rows::write(&mut self.tx, self.dialect, (insert, 9), &children, |query, (manifest, child)| {
            query
                .bind(*manifest)
                .bind(child.position)
                .bind(child.digest.as_bytes())
                .bind(child.size)
                .bind(child.media_type.as_str())
                .bind(child.os.as_deref())
                .bind(child.architecture.as_deref())
                .bind(child.variant.as_deref())
                .bind(child.annotations.as_str())
        })
        .await
    }

    async fn write_bodies(&mut self, mut bodies: Vec<(Digest, Bytes)>) -> Result<(), IndexError> {
        // In one order everywhere: another replica may write the same ones for somebody else.
        bodies.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        bodies.dedup_by(|(a, _), (b, _)| a == b);
        let insert = "INSERT INTO bodies (digest, bytes) VALUES {rows} ON CONFLICT (digest) DO NOTHING";
        rows::write(&mut self.tx, self.dialect, (insert, 2), &bodies, |query, (digest, bytes)| {
            query.bind(digest.as_bytes()).bind(&**bytes)
        })
        .await
    }
}
