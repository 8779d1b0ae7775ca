//! Records into rows and out of them again.

use atcr_core::oci::{Digest, Manifest};
use atcr_core::records::{
    AnyCrewRecord, BlobReference, CaptainRecord, HoldRecord, LayerRecord, ManifestRecord, ManifestReference,
    ProfileRecord, Record as _, RepoPageRecord, ScanRecord, StarRecord, StatsRecord, TagRecord,
};
use atcr_core::syntax::{AtUri, Datetime};
use sqlx::AssertSqlSafe;

use super::IndexError;
use super::apply::Writing;
use super::database::{all, first, run};
use super::event::{Collection, Indexed};
use super::pending::{ChildRow, HoldLayerRow, LayerRow, ManifestRow, Place, TagRow};

/// The largest manifest whose bytes are kept here; larger ones are read from their owner's PDS.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// The place of the config among the layers.
pub(super) const CONFIG: i64 = -1;

/// Text of somebody else: no longer than this, and without what PostgreSQL does not take.
pub(super) fn clean(text: &str, limit: usize) -> String {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

pub(super) fn size(size: u64) -> i64 {
    // The data model ends there.
    i64::try_from(size.min((1 << 53) - 1)).unwrap_or(i64::MAX)
}

pub(super) fn millis(at: &Datetime) -> i64 {
    at.timestamp().as_millisecond()
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

impl Writing {
    /// The number of a repository; it is made where there is none yet.
    pub(super) async fn repository(&mut self, repo: i64, name: &str) -> Result<i64, IndexError> {
        let key = (repo, name.to_owned());
        if let Some(id) = self.repositories.get(&key) {
            return Ok(*id);
        }
        let found: Option<(i64,)> =
            first!(&mut *self.tx, "SELECT id FROM repositories WHERE repo = $1 AND name = $2", repo, name);
        let id = if let Some((id,)) = found {
            id
        } else {
            let made: Option<(i64,)> = first!(
                &mut *self.tx,
                "INSERT INTO repositories (repo, name) VALUES ($1, $2) RETURNING id",
                repo,
                name
            );
            let (id,) = made.ok_or_else(|| IndexError::corrupt("a row without a number"))?;
            self.touched.insert(id, true);
            // Whoever writes a record is among the repos of the transaction.
            let owner = self.repos.iter().find(|(_, state)| state.id == repo).map(|(did, _)| did.to_string());
            if let Some(owner) = owner {
                self.starred.insert((owner.clone(), name.to_owned()));
                self.counted.insert((owner, name.to_owned()));
            }
            id
        };
        self.names.insert(id, key.clone());
        self.repositories.insert(key, id);
        Ok(id)
    }

    fn touch(&mut self, repository: i64, words: bool) {
        *self.touched.entry(repository).or_default() |= words;
    }

    /// Every repository of a repo is to be looked at again.
    pub(super) async fn touch_all(&mut self, repo: i64) -> Result<(), IndexError> {
        let found: Vec<(i64, String)> =
            all!(&mut *self.tx, "SELECT id, name FROM repositories WHERE repo = $1", repo);
        for (id, name) in found {
            self.names.insert(id, (repo, name.clone()));
            self.repositories.insert((repo, name), id);
            self.touch(id, true);
        }
        Ok(())
    }

    /// Removes what came out of a record.
    pub(super) async fn remove(&mut self, collection: Collection, place: &Place) -> Result<(), IndexError> {
        if self.pending.has(place) {
            self.flush().await?;
        }
        let (repo, rkey) = (place.0, place.2.as_str());
        let by_key = |table: &str, returning: &str| {
            AssertSqlSafe(format!("DELETE FROM {table} WHERE repo = $1 AND rkey = $2{returning}"))
        };
        match collection {
            Collection::Manifest => return self.remove_manifest(repo, rkey).await,
            Collection::Tag => {
                let there: Option<(i64, String)> = first!(
                    &mut *self.tx,
                    "SELECT repository, tag FROM tags WHERE repo = $1 AND rkey = $2",
                    repo,
                    rkey
                );
                if let Some((repository, tag)) = there {
                    self.name_of(repository).await?;
                    self.moves_now((repository, tag)).await?;
                    run!(self.tx, by_key("tags", ""), repo, rkey);
                    self.touch(repository, false);
                }
            }
            Collection::Page => {
                let gone: Option<(i64,)> =
                    first!(&mut *self.tx, by_key("pages", " RETURNING repository"), repo, rkey);
                if let Some((repository,)) = gone {
                    self.touch(repository, true);
                }
            }
            Collection::Star => {
                let gone: Option<(String, String)> =
                    first!(&mut *self.tx, by_key("stars", " RETURNING owner, repository"), repo, rkey);
                self.starred.extend(gone);
            }
            Collection::Stats => {
                let gone: Option<(String, String)> =
                    first!(&mut *self.tx, by_key("stats", " RETURNING owner, repository"), repo, rkey);
                self.counted.extend(gone);
            }
            Collection::Profile => drop(run!(self.tx, by_key("profiles", ""), repo, rkey)),
            Collection::Hold => drop(run!(self.tx, by_key("holds", ""), repo, rkey)),
            Collection::Captain => drop(run!(self.tx, by_key("captains", ""), repo, rkey)),
            Collection::Crew => drop(run!(self.tx, by_key("crew", ""), repo, rkey)),
            Collection::Scan => drop(run!(self.tx, by_key("scans", ""), repo, rkey)),
            Collection::Layer => drop(run!(self.tx, by_key("hold_layers", ""), repo, rkey)),
        }
        Ok(())
    }

    async fn name_of(&mut self, repository: i64) -> Result<(), IndexError> {
        if !self.names.contains_key(&repository) {
            let found: Option<(i64, String)> =
                first!(&mut *self.tx, "SELECT repo, name FROM repositories WHERE id = $1", repository);
            if let Some((repo, name)) = found {
                self.repositories.insert((repo, name.clone()), repository);
                self.names.insert(repository, (repo, name));
            }
        }
        Ok(())
    }

    async fn remove_manifest(&mut self, repo: i64, rkey: &str) -> Result<(), IndexError> {
        // Another one that waits may be all that the bytes are kept for.
        if self.pending.has_manifests() {
            self.flush().await?;
        }
        let gone: Option<(i64, Vec<u8>)> = first!(
            &mut *self.tx,
            "DELETE FROM manifests WHERE repo = $1 AND rkey = $2 RETURNING id, digest",
            repo,
            rkey
        );
        let Some((id, digest)) = gone else { return Ok(()) };
        let left: Vec<(i64,)> = all!(
            &mut *self.tx,
            "DELETE FROM manifest_repositories WHERE manifest = $1 RETURNING repository",
            id
        );
        for (repository,) in left {
            self.touch(repository, false);
        }
        run!(self.tx, "DELETE FROM layers WHERE manifest = $1", id);
        run!(self.tx, "DELETE FROM children WHERE manifest = $1", id);
        run!(
            self.tx,
            "DELETE FROM bodies WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = $1)",
            digest
        );
        Ok(())
    }

    /// The tag is about to move. Where it went by a commit before this one is settled first.
    async fn moves_now(&mut self, tag: (i64, String)) -> Result<(), IndexError> {
        if self.moved.contains(&tag) {
            self.flush().await?;
        }
        self.moving.insert(tag);
        Ok(())
    }

    pub(super) async fn insert(&mut self, place: Place, record: &Indexed) -> Result<(), IndexError> {
        let (repo, rkey) = (place.0, place.2.as_str());
        match record {
            Indexed::Manifest(record) => self.manifest(place, record).await?,
            Indexed::Tag(record) => self.tag(place, record).await?,
            Indexed::Page(record) => self.page(repo, rkey, record).await?,
            Indexed::Star(record) => self.star(repo, rkey, record).await?,
            Indexed::Profile(record) => self.profile(repo, rkey, record).await?,
            Indexed::Hold(record) => self.hold(repo, rkey, record).await?,
            Indexed::Captain(record) => self.captain(repo, rkey, record).await?,
            Indexed::Crew(record) => self.crew(repo, rkey, record).await?,
            Indexed::Stats(record) => self.stats(repo, rkey, record).await?,
            Indexed::Scan(record) => self.scan(repo, rkey, record).await?,
            Indexed::Layer(record) => self.layer(place, record),
        }
        if self.pending.is_full() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn manifest(&mut self, place: Place, record: &ManifestRecord) -> Result<(), IndexError> {
        let body = record.inline_manifest().or_else(|| {
            // The oldest records keep the fields only; written the usual way they often give the same bytes again.
            if record.has_bytes() { None } else { record.manifest_with(record.rebuild().bytes) }
        });
        let config_type = record.config.as_ref().map(|config| config.media_type.clone());
        let artifact_type = body.as_ref().and_then(artifact_type).or(config_type);
        let from_blob = record.manifest_blob.as_ref().and_then(|blob| blob.size);
        let body_size = body.as_ref().map(|body| body.bytes.len() as u64).or(from_blob).map(size);
        let blobs = record.config.iter().chain(&record.layers);
        let content: u64 = blobs.map(|blob| blob.size).fold(0, u64::saturating_add);
        let mut repositories = Vec::new();
        for name in record.repositories() {
            let repository = self.repository(place.0, name.as_str()).await?;
            self.touch(repository, false);
            repositories.push(repository);
        }
        let config = record.config.iter().map(|config| (CONFIG, config));
        let row = ManifestRow {
            repo: place.0,
            rkey: place.2.clone(),
            digest: record.digest,
            media_type: record.media_type.as_str().to_owned(),
            artifact_type: artifact_type.map(|text| clean(&text, 255)),
            size: body_size,
            created_at: millis(&record.created_at),
            hold: record.hold().map(|hold| hold.to_string()),
            subject: record.subject.as_ref().map(|subject| subject.digest),
            annotations: json(&record.annotations),
            content_size: size(content),
            layer_count: i64::try_from(record.layers.len()).unwrap_or(i64::MAX),
            pds_blob: record.manifest_blob.as_ref().map(|blob| blob.cid.to_string()),
            repositories,
            layers: config.chain((0..).zip(&record.layers)).map(layer_row).collect(),
            children: (0..).zip(&record.manifests).map(child_row).collect(),
        };
        self.pending.manifest(place, row);
        if let Some(body) = body.filter(|body| body.bytes.len() <= MAX_BODY) {
            self.pending.body(body.digest, body.bytes);
        }
        Ok(())
    }

    async fn tag(&mut self, place: Place, record: &TagRecord) -> Result<(), IndexError> {
        let repository = self.repository(place.0, record.repository.as_str()).await?;
        self.moves_now((repository, record.tag.as_str().to_owned())).await?;
        let row = TagRow {
            repo: place.0,
            rkey: place.2.clone(),
            repository,
            tag: record.tag.as_str().to_owned(),
            digest: record.manifest_digest(),
            media_type: record.media_type.as_ref().map(|kind| kind.as_str().to_owned()),
            updated_at: record.written_at().map_or(0, millis),
            usual: i64::from(record.rkey().as_str() == place.2),
        };
        self.pending.tag(place, row);
        self.touch(repository, false);
        Ok(())
    }

    async fn page(&mut self, repo: i64, rkey: &str, record: &RepoPageRecord) -> Result<(), IndexError> {
        let repository = self.repository(repo, record.repository.as_str()).await?;
        run!(
            self.tx,
            "INSERT INTO pages (repo, rkey, repository, description, avatar, avatar_type, user_edited, created_at, \
             updated_at, usual) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            repo,
            rkey,
            repository,
            record.description.as_deref().map(|text| clean(text, 100_000)),
            record.avatar.as_ref().map(|avatar| avatar.cid.to_string()),
            record.avatar.as_ref().map(|avatar| clean(&avatar.mime_type, 255)),
            i64::from(record.user_edited),
            millis(&record.created_at),
            millis(&record.updated_at),
            i64::from(record.rkey().as_str() == rkey)
        );
        self.touch(repository, true);
        Ok(())
    }

    async fn star(&mut self, repo: i64, rkey: &str, record: &StarRecord) -> Result<(), IndexError> {
        let Some((owner, repository)) = record.subject.repository() else {
            self.applied.unreadable += 1;
            return Ok(());
        };
        run!(
            self.tx,
            "INSERT INTO stars (repo, rkey, owner, repository, created_at) VALUES ($1, $2, $3, $4, $5)",
            repo,
            rkey,
            owner.as_str(),
            repository.as_str(),
            millis(&record.created_at)
        );
        self.starred.insert((owner.to_string(), repository.to_string()));
        Ok(())
    }

    async fn profile(&mut self, repo: i64, rkey: &str, record: &ProfileRecord) -> Result<(), IndexError> {
        run!(
            self.tx,
            "INSERT INTO profiles (repo, rkey, default_hold, auto_remove_untagged, oci_client, registry_domain, \
             created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            repo,
            rkey,
            record.default_hold.as_ref().map(ToString::to_string),
            i64::from(record.auto_remove_untagged),
            record.oci_client.as_ref().map(|client| clean(client.as_str(), 32)),
            record.registry_domain.as_deref().map(|domain| clean(domain, 255)),
            millis(&record.created_at),
            record.updated_at.as_ref().map(millis)
        );
        Ok(())
    }

    async fn hold(&mut self, repo: i64, rkey: &str, record: &HoldRecord) -> Result<(), IndexError> {
        let Some(hold) = record.did() else {
            self.applied.unreadable += 1;
            return Ok(());
        };
        run!(
            self.tx,
            "INSERT INTO holds (repo, rkey, hold, endpoint, owner, public, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            repo,
            rkey,
            hold.as_str(),
            clean(record.endpoint.as_str(), 2048),
            record.owner.as_str(),
            i64::from(record.public),
            millis(&record.created_at)
        );
        Ok(())
    }

    async fn captain(&mut self, repo: i64, rkey: &str, record: &CaptainRecord) -> Result<(), IndexError> {
        run!(
            self.tx,
            "INSERT INTO captains (repo, rkey, owner, public, allow_all_crew, region, successor, deployed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            repo,
            rkey,
            record.owner.as_str(),
            i64::from(record.public),
            i64::from(record.allow_all_crew),
            record.region.as_deref().map(|region| clean(region, 64)),
            record.successor.as_ref().map(ToString::to_string),
            millis(&record.deployed_at)
        );
        Ok(())
    }

    async fn crew(&mut self, repo: i64, rkey: &str, record: &AnyCrewRecord) -> Result<(), IndexError> {
        // A membership in a hold of 2025 stands in the repo of the hold's owner; such holds decide by themselves.
        let AnyCrewRecord::Crew(record) = record else { return Ok(()) };
        let permissions: Vec<String> =
            record.permissions.iter().map(|permission| clean(permission.as_str(), 64)).collect();
        run!(
            self.tx,
            "INSERT INTO crew (repo, rkey, member, role, permissions, tier, added_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            repo,
            rkey,
            record.member.as_str(),
            clean(record.role.as_str(), 64),
            json(&permissions),
            record.tier.as_deref().map(|tier| clean(tier, 64)),
            millis(&record.added_at)
        );
        Ok(())
    }

    async fn stats(&mut self, repo: i64, rkey: &str, record: &StatsRecord) -> Result<(), IndexError> {
        run!(
            self.tx,
            "INSERT INTO stats (repo, rkey, owner, repository, pulls, pushes, last_pull, last_push) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            repo,
            rkey,
            record.owner_did.as_str(),
            record.repository.as_str(),
            count(record.pull_count),
            count(record.push_count),
            record.last_pull.as_ref().map(millis),
            record.last_push.as_ref().map(millis)
        );
        self.counted.insert((record.owner_did.to_string(), record.repository.to_string()));
        Ok(())
    }

    async fn scan(&mut self, repo: i64, rkey: &str, record: &ScanRecord) -> Result<(), IndexError> {
        let Some(digest) = scanned(&record.manifest) else {
            self.applied.unreadable += 1;
            return Ok(());
        };
        let blob =
            |blob: &Option<atcr_core::records::BlobRef>| blob.as_ref().map(|blob| blob.cid.to_string());
        let status = record.status.as_ref().map_or("ok", |status| status.as_str());
        // Seventeen arguments are more than a tuple has, and none is read back here.
        sqlx::query::<sqlx::Any>(
            "INSERT INTO scans (repo, rkey, digest, owner, repository, critical, high, medium, low, total, status, \
             reason, scanner, scanned_at, sbom, report) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(repo)
        .bind(rkey)
        .bind(digest.as_bytes())
        .bind(record.user_did.as_str())
        .bind(record.repository.as_str())
        .bind(count(record.critical))
        .bind(count(record.high))
        .bind(count(record.medium))
        .bind(count(record.low))
        .bind(count(record.total))
        .bind(clean(status, 32))
        .bind(record.reason.as_deref().map(|reason| clean(reason, 256)))
        .bind(clean(&record.scanner_version, 64))
        .bind(millis(&record.scanned_at))
        .bind(blob(&record.sbom_blob))
        .bind(blob(&record.vuln_report_blob))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    fn layer(&mut self, place: Place, record: &LayerRecord) {
        let row = HoldLayerRow {
            repo: place.0,
            rkey: place.2.clone(),
            digest: record.digest,
            owner: record.user_did.to_string(),
            size: size(record.size),
        };
        self.pending.hold_layer(place, row);
    }
}

fn layer_row((position, layer): (i64, &BlobReference)) -> LayerRow {
    LayerRow {
        position,
        digest: layer.digest,
        size: size(layer.size),
        media_type: clean(&layer.media_type, 255),
    }
}

fn child_row((position, child): (i64, &ManifestReference)) -> ChildRow {
    let platform = child.platform.as_ref();
    ChildRow {
        position,
        digest: child.digest,
        size: size(child.size),
        media_type: clean(&child.media_type, 255),
        os: platform.map(|platform| clean(&platform.os, 64)),
        architecture: platform.map(|platform| clean(&platform.architecture, 64)),
        variant: platform.and_then(|platform| platform.variant.as_deref()).map(|variant| clean(variant, 64)),
        annotations: json(&child.annotations),
    }
}

/// A counter of somebody else: small enough that a sum of them does not overflow.
fn count(count: u64) -> i64 {
    i64::try_from(count.min(1 << 40)).unwrap_or(1 << 40)
}

/// What a referrers list shows, from the manifest itself.
pub(super) fn artifact_type(manifest: &Manifest) -> Option<String> {
    manifest.content().ok()?.effective_artifact_type().map(str::to_owned)
}

/// The digest in the URI of a manifest's record.
fn scanned(uri: &AtUri) -> Option<Digest> {
    if uri.collection()?.as_str() != ManifestRecord::NSID {
        return None;
    }
    let rkey = uri.rkey()?;
    let algorithm = if rkey.as_str().len() == 128 { "sha512" } else { "sha256" };
    format!("{algorithm}:{rkey}").parse().ok()
}
