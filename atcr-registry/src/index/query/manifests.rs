//! Manifests, what they name, and what is said of them.

use std::collections::BTreeMap;

use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::Did;

use super::row::{ManifestRow, manifest, manifest_columns, moment, parsed};
use super::{Child, Layer, MOST, ManifestEntry, Scan};
use crate::index::database::{all, first};
use crate::index::lookup::{digest_of, unsigned};
use crate::index::page::{Listed, PageCursor, PageRequest};
use crate::index::write::CONFIG;
use crate::index::{Index, IndexError};

impl Index {
    /// A manifest of a repository.
    pub async fn manifest(
        &self,
        owner: &Did,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestEntry>, IndexError> {
        let row: Option<ManifestRow> = first!(
            &self.database().read,
            concat!(
                manifest_columns!(),
                "JOIN repos o ON o.id = m.repo JOIN repositories r ON r.repo = o.id \
                 WHERE o.did = $1 AND o.status = 'active' AND r.name = $2 AND m.digest = $3 AND \
                 (EXISTS (SELECT 1 FROM manifest_repositories mr WHERE mr.manifest = m.id AND mr.repository = r.id) OR \
                 EXISTS (SELECT 1 FROM tags t WHERE t.repo = o.id AND t.digest = m.digest AND t.repository = r.id)) \
                 ORDER BY m.rkey LIMIT 1"
            ),
            owner.as_str(),
            name.as_str(),
            digest.as_bytes()
        );
        row.map(manifest).transpose()
    }

    /// The manifests of a repository, the one that was pushed last first.
    pub async fn manifests(
        &self,
        owner: &Did,
        name: &RepositoryName,
        page: &PageRequest,
    ) -> Result<Listed<ManifestEntry>, IndexError> {
        let Some(repository) = self.repository_id(owner, name).await? else {
            return Ok(Listed { items: Vec::new(), next: None });
        };
        let [time, id] = match page.after()? {
            Some(after) => after.exactly()?,
            None => [i64::MAX; 2],
        };
        let rows: Vec<ManifestRow> = all!(
            &self.database().read,
            concat!(
                manifest_columns!(),
                "JOIN manifest_repositories mr ON mr.manifest = m.id WHERE mr.repository = $1 AND \
                 (mr.created_at < $2 OR (mr.created_at = $2 AND mr.manifest < $3)) \
                 ORDER BY mr.created_at DESC, mr.manifest DESC LIMIT $4"
            ),
            repository,
            time,
            id,
            page.fetch()
        );
        let items: Vec<ManifestEntry> = rows.into_iter().map(manifest).collect::<Result<_, _>>()?;
        Ok(Listed::cut(items, page, |m| PageCursor(vec![m.created_at.as_millisecond(), m.id]).to_string()))
    }

    /// The manifests of a repository whose subject is this digest, in the order of their digests: at most 1,000.
    pub async fn referrers(
        &self,
        owner: &Did,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<ManifestEntry>, IndexError> {
        let rows: Vec<ManifestRow> = all!(
            &self.database().read,
            concat!(
                manifest_columns!(),
                "JOIN repos o ON o.id = m.repo JOIN repositories r ON r.repo = o.id \
                 JOIN manifest_repositories mr ON mr.manifest = m.id AND mr.repository = r.id \
                 WHERE m.subject = $1 AND o.did = $2 AND o.status = 'active' AND r.name = $3 ORDER BY m.digest LIMIT $4"
            ),
            subject.as_bytes(),
            owner.as_str(),
            name.as_str(),
            MOST
        );
        rows.into_iter().map(manifest).collect()
    }

    /// The config and the layers of a manifest, in their order.
    pub async fn layers(&self, manifest: &ManifestEntry) -> Result<Vec<Layer>, IndexError> {
        let rows: Vec<(i64, Vec<u8>, i64, String)> = all!(
            &self.database().read,
            "SELECT position, digest, size, media_type FROM layers WHERE manifest = $1 ORDER BY position LIMIT $2",
            manifest.id,
            MOST
        );
        let layer = |(position, digest, size, media_type): (i64, Vec<u8>, i64, String)| {
            Ok(Layer {
                is_config: position == CONFIG,
                digest: digest_of(&digest)?,
                size: unsigned(size),
                media_type,
            })
        };
        rows.into_iter().map(layer).collect()
    }

    /// What an index names, in its order.
    pub async fn children(&self, manifest: &ManifestEntry) -> Result<Vec<Child>, IndexError> {
        type Row = (Vec<u8>, i64, String, Option<String>, Option<String>, Option<String>, String);
        let rows: Vec<Row> = all!(
            &self.database().read,
            "SELECT digest, size, media_type, os, architecture, variant, annotations FROM children \
             WHERE manifest = $1 ORDER BY position LIMIT $2",
            manifest.id,
            MOST
        );
        let child = |(digest, size, media_type, os, architecture, variant, annotations): Row| {
            Ok(Child {
                digest: digest_of(&digest)?,
                size: unsigned(size),
                media_type,
                os: os.unwrap_or_default(),
                architecture: architecture.unwrap_or_default(),
                variant: variant.unwrap_or_default(),
                annotations: serde_json::from_str(&annotations).unwrap_or_default(),
            })
        };
        rows.into_iter().map(child).collect()
    }

    /// What the blobs of the manifests that an index names have together, in bytes, by the manifests' digests; those that
    /// the owner's repo does not have are left out.
    pub async fn child_sizes(&self, manifest: &ManifestEntry) -> Result<BTreeMap<Digest, u64>, IndexError> {
        let rows: Vec<(Vec<u8>, i64)> = all!(
            &self.database().read,
            "SELECT m.digest, max(m.content_size) FROM manifests i JOIN children c ON c.manifest = i.id \
             JOIN manifests m ON m.digest = c.digest AND m.repo = i.repo \
             WHERE i.id = $1 GROUP BY m.digest LIMIT $2",
            manifest.id,
            MOST
        );
        rows.into_iter().map(|(digest, size)| Ok((digest_of(&digest)?, unsigned(size)))).collect()
    }

    /// Whether an index of an owner names a manifest.
    pub async fn is_child(&self, owner: &Did, digest: &Digest) -> Result<bool, IndexError> {
        let row: Option<(i64,)> = first!(
            &self.database().read,
            "SELECT m.id FROM repos o JOIN manifests m ON m.repo = o.id JOIN children c ON c.manifest = m.id \
             WHERE o.did = $1 AND c.digest = $2 LIMIT 1",
            owner.as_str(),
            digest.as_bytes()
        );
        Ok(row.is_some())
    }

    /// What scanners of holds found in a manifest of an owner, the newest first. Only holds that the owner's manifests
    /// name are heard: anybody can publish a scan.
    pub async fn scans(&self, owner: &Did, digest: &Digest) -> Result<Vec<Scan>, IndexError> {
        type Row = (
            String,
            i64,
            i64,
            i64,
            i64,
            i64,
            String,
            Option<String>,
            String,
            i64,
            Option<String>,
            Option<String>,
        );
        let rows: Vec<Row> = all!(
            &self.database().read,
            "SELECT h.did, s.critical, s.high, s.medium, s.low, s.total, s.status, s.reason, s.scanner, s.scanned_at, \
             s.sbom, s.report FROM scans s JOIN repos h ON h.id = s.repo \
             WHERE s.digest = $1 AND s.owner = $2 AND h.status = 'active' AND EXISTS \
             (SELECT 1 FROM manifests m JOIN repos o ON o.id = m.repo WHERE o.did = $2 AND m.hold = h.did) \
             ORDER BY s.scanned_at DESC, h.did LIMIT 20",
            digest.as_bytes(),
            owner.as_str()
        );
        let scan = |row: Row| {
            let (hold, critical, high, medium, low, total, status, reason, scanner, scanned_at, sbom, report) =
                row;
            let [critical, high, medium, low, total] = [critical, high, medium, low, total].map(unsigned);
            Ok(Scan {
                hold: parsed(&hold)?,
                counts: SeverityCounts { critical, high, medium, low, total },
                status,
                reason,
                scanner,
                scanned_at: moment(scanned_at),
                sbom,
                report,
            })
        };
        rows.into_iter().map(scan).collect()
    }
}
