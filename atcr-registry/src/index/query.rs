//! The questions that pages ask.

use std::collections::{BTreeMap, HashMap};

use atcr_core::oci::{Digest, MediaType, RepositoryName, Tag};
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::{Did, Handle};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;

use super::database::{all, first};
use super::lookup::{digest_of, unsigned};
use super::page::{Listed, PageCursor, PageRequest};
use super::write::CONFIG;
use super::{Index, IndexError};

/// Clocks of strangers run ahead of ours by this much, in milliseconds, before what they say is not shown as recent.
const AHEAD: i64 = 5 * 60 * 1000;
/// Lists that have no pages end here.
const MOST: i64 = 1000;

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
    /// Its number in the index, for [`Index::layers`] and [`Index::children`].
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

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, IndexError> {
    text.parse().map_err(IndexError::corrupt)
}

fn optional<T: std::str::FromStr>(text: Option<String>) -> Option<T> {
    text.and_then(|text| text.parse().ok())
}

fn digest(bytes: Option<Vec<u8>>) -> Result<Option<Digest>, IndexError> {
    bytes.map(|bytes| digest_of(&bytes)).transpose()
}

/// What a [`RepositoryEntry`] is made of; after it comes what the list is sorted by.
macro_rules! repository_columns {
    () => {
        "SELECT r.id, o.did, o.handle, r.name, r.last_push, r.stars, r.pulls, r.pushes, r.description, r.avatar, \
         r.avatar_type FROM repositories r JOIN repos o ON o.id = r.repo WHERE o.status = 'active' AND r.last_push > 0 "
    };
}
type RepositoryRow =
    (i64, String, Option<String>, String, i64, i64, i64, i64, Option<String>, Option<String>, Option<String>);

fn repository(row: RepositoryRow) -> Result<(i64, RepositoryEntry), IndexError> {
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
type ManifestRow = (
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

fn manifest(row: ManifestRow) -> Result<ManifestEntry, IndexError> {
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

impl Index {
    /// One repository.
    pub async fn repository(
        &self,
        owner: &Did,
        name: &RepositoryName,
    ) -> Result<Option<RepositoryEntry>, IndexError> {
        let row: Option<RepositoryRow> = first!(
            &self.database().read,
            concat!(repository_columns!(), "AND o.did = $1 AND r.name = $2"),
            owner.as_str(),
            name.as_str()
        );
        row.map(|row| Ok(repository(row)?.1)).transpose()
    }

    /// The repositories of an owner in the order of their names.
    pub async fn repositories_of(
        &self,
        owner: &Did,
        page: &PageRequest,
    ) -> Result<Listed<RepositoryEntry>, IndexError> {
        // A name is its own cursor.
        let after = page.cursor.clone().unwrap_or_default();
        let rows: Vec<RepositoryRow> = all!(
            &self.database().read,
            concat!(repository_columns!(), "AND o.did = $1 AND r.name > $2 ORDER BY r.name LIMIT $3"),
            owner.as_str(),
            after,
            page.fetch()
        );
        let items = rows.into_iter().map(|row| Ok(repository(row)?.1)).collect::<Result<_, IndexError>>()?;
        Ok(Listed::cut(items, page, |entry: &RepositoryEntry| entry.name.to_string()))
    }

    /// The repositories that something was pushed to last. Those whose records lie in the future are left out until
    /// then.
    pub async fn recent(&self, page: &PageRequest) -> Result<Listed<RepositoryEntry>, IndexError> {
        let [time, id] = match page.after()? {
            Some(after) => after.exactly()?,
            None => [self.now() + AHEAD, i64::MAX],
        };
        let rows: Vec<RepositoryRow> = all!(
            &self.database().read,
            concat!(
                repository_columns!(),
                "AND (r.last_push < $1 OR (r.last_push = $1 AND r.id < $2)) ORDER BY r.last_push DESC, r.id DESC LIMIT $3"
            ),
            time,
            id,
            page.fetch()
        );
        Self::repository_list(rows, page, |id, entry| vec![entry.last_push.as_millisecond(), id])
    }

    /// The repositories with the most stars, then with the most pulls.
    pub async fn popular(&self, page: &PageRequest) -> Result<Listed<RepositoryEntry>, IndexError> {
        let [stars, pulls, id] = match page.after()? {
            Some(after) => after.exactly()?,
            None => [i64::MAX; 3],
        };
        let rows: Vec<RepositoryRow> = all!(
            &self.database().read,
            concat!(
                repository_columns!(),
                "AND (r.stars, r.pulls, r.id) < ($1, $2, $3) ORDER BY r.stars DESC, r.pulls DESC, r.id DESC LIMIT $4"
            ),
            stars,
            pulls,
            id,
            page.fetch()
        );
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self::repository_list(rows, page, |id, entry| vec![signed(entry.stars), signed(entry.pulls), id])
    }

    fn repository_list(
        rows: Vec<RepositoryRow>,
        page: &PageRequest,
        place: impl Fn(i64, &RepositoryEntry) -> Vec<i64>,
    ) -> Result<Listed<RepositoryEntry>, IndexError> {
        let items: Vec<(i64, RepositoryEntry)> =
            rows.into_iter().map(repository).collect::<Result<_, _>>()?;
        let cut = Listed::cut(items, page, |(id, entry)| PageCursor(place(*id, entry)).to_string());
        Ok(Listed { items: cut.items.into_iter().map(|(_, entry)| entry).collect(), next: cut.next })
    }

    /// These repositories, in this order.
    pub(super) async fn repositories_by_id(&self, ids: &[i64]) -> Result<Vec<RepositoryEntry>, IndexError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
        // Numbers of our own, not text of anybody.
        let sql = AssertSqlSafe(format!("{}AND r.id IN ({})", repository_columns!(), list.join(", ")));
        let rows: Vec<RepositoryRow> =
            sqlx::query_as::<sqlx::Any, _>(sql).persistent(false).fetch_all(&self.database().read).await?;
        let mut found: HashMap<i64, RepositoryEntry> =
            rows.into_iter().map(repository).collect::<Result<_, _>>()?;
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// The repositories that an account has starred, the last one first.
    pub async fn starred_by(
        &self,
        did: &Did,
        page: &PageRequest,
    ) -> Result<Listed<RepositoryEntry>, IndexError> {
        let [time, id] = match page.after()? {
            Some(after) => after.exactly()?,
            None => [i64::MAX; 2],
        };
        let rows: Vec<(i64, i64)> = all!(
            &self.database().read,
            "SELECT starred_at, id FROM (SELECT max(s.created_at) AS starred_at, r.id AS id \
             FROM repos me JOIN stars s ON s.repo = me.id JOIN repos o ON o.did = s.owner \
             JOIN repositories r ON r.repo = o.id AND r.name = s.repository \
             WHERE me.did = $1 AND o.status = 'active' AND r.last_push > 0 GROUP BY r.id) AS starred \
             WHERE starred_at < $2 OR (starred_at = $2 AND id < $3) ORDER BY starred_at DESC, id DESC LIMIT $4",
            did.as_str(),
            time,
            id,
            page.fetch()
        );
        let cut = Listed::cut(rows, page, |(time, id)| PageCursor(vec![*time, *id]).to_string());
        let ids: Vec<i64> = cut.items.iter().map(|(_, id)| *id).collect();
        Ok(Listed { items: self.repositories_by_id(&ids).await?, next: cut.next })
    }

    /// The keys of the records by which an account has starred a repository; none when it has not.
    pub async fn has_starred(
        &self,
        did: &Did,
        owner: &Did,
        name: &RepositoryName,
    ) -> Result<Vec<String>, IndexError> {
        let rows: Vec<(String,)> = all!(
            &self.database().read,
            "SELECT s.rkey FROM stars s JOIN repos me ON me.id = s.repo \
             WHERE me.did = $1 AND s.owner = $2 AND s.repository = $3 ORDER BY s.rkey LIMIT 100",
            did.as_str(),
            owner.as_str(),
            name.as_str()
        );
        Ok(rows.into_iter().map(|(rkey,)| rkey).collect())
    }

    /// The tags of a repository in byte order, after one of them; `None` when the index knows no such repository.
    pub async fn tags(
        &self,
        owner: &Did,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<Tag>>, IndexError> {
        let Some(repository) = self.repository_id(owner, name).await? else { return Ok(None) };
        let rows: Vec<(String,)> = all!(
            &self.database().read,
            "SELECT DISTINCT tag FROM tags WHERE repository = $1 AND tag > $2 ORDER BY tag LIMIT $3",
            repository,
            after.unwrap_or_default(),
            i64::try_from(limit).unwrap_or(i64::MAX)
        );
        rows.iter().map(|(tag,)| parsed(tag)).collect::<Result<_, _>>().map(Some)
    }

    async fn repository_id(&self, owner: &Did, name: &RepositoryName) -> Result<Option<i64>, IndexError> {
        let row: Option<(i64,)> = first!(
            &self.database().read,
            "SELECT r.id FROM repos o JOIN repositories r ON r.repo = o.id \
             WHERE o.did = $1 AND o.status = 'active' AND r.name = $2",
            owner.as_str(),
            name.as_str()
        );
        Ok(row.map(|(id,)| id))
    }

    /// The tags of a repository with what they point at, the one that was moved last first.
    pub async fn tags_by_date(
        &self,
        owner: &Did,
        name: &RepositoryName,
        page: &PageRequest,
    ) -> Result<Listed<TagEntry>, IndexError> {
        let Some(repository) = self.repository_id(owner, name).await? else {
            return Ok(Listed { items: Vec::new(), next: None });
        };
        // A time and a tag, which has no colon.
        let bad = |text: &str| IndexError::Cursor(text.chars().take(64).collect());
        let (time, after) = match page.cursor.as_deref() {
            Some(text) => {
                let (time, tag) = text.split_once(':').ok_or_else(|| bad(text))?;
                (time.parse().map_err(|_| bad(text))?, tag.to_owned())
            }
            None => (i64::MAX, String::new()),
        };
        let rows: Vec<(String, Option<Vec<u8>>, i64, Option<String>, Option<i64>)> = all!(
            &self.database().read,
            "SELECT t.tag, t.digest, t.updated_at, \
             (SELECT m.media_type FROM manifests m WHERE m.digest = t.digest AND m.repo = t.repo ORDER BY m.rkey LIMIT 1), \
             (SELECT m.content_size FROM manifests m WHERE m.digest = t.digest AND m.repo = t.repo ORDER BY m.rkey LIMIT 1) \
             FROM tags t WHERE t.repository = $1 AND (t.updated_at < $2 OR (t.updated_at = $2 AND t.tag > $3)) \
             AND NOT EXISTS (SELECT 1 FROM tags b WHERE b.repository = t.repository AND b.tag = t.tag AND \
             (b.usual > t.usual OR (b.usual = t.usual AND (b.updated_at > t.updated_at OR \
             (b.updated_at = t.updated_at AND b.rkey < t.rkey))))) ORDER BY t.updated_at DESC, t.tag LIMIT $4",
            repository,
            time,
            after,
            page.fetch()
        );
        let items: Vec<TagEntry> = rows
            .into_iter()
            .map(|(tag, points_at, updated_at, media_type, content)| {
                Ok(TagEntry {
                    tag: parsed(&tag)?,
                    digest: digest(points_at)?,
                    updated_at: moment(updated_at),
                    media_type: optional(media_type),
                    content_size: content.map(unsigned),
                })
            })
            .collect::<Result<_, IndexError>>()?;
        Ok(Listed::cut(items, page, |entry| format!("{}:{}", entry.updated_at.as_millisecond(), entry.tag)))
    }

    /// The tags of a repository that point at a manifest, in byte order.
    pub async fn tags_of(
        &self,
        owner: &Did,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Tag>, IndexError> {
        let rows: Vec<(String,)> = all!(
            &self.database().read,
            "SELECT DISTINCT t.tag FROM repos o JOIN repositories r ON r.repo = o.id JOIN tags t ON t.repository = r.id \
             WHERE o.did = $1 AND o.status = 'active' AND r.name = $2 AND t.digest = $3 ORDER BY t.tag LIMIT $4",
            owner.as_str(),
            name.as_str(),
            digest.as_bytes(),
            MOST
        );
        rows.iter().map(|(tag,)| parsed(tag)).collect()
    }

    /// Where the tags of a repository have been, or one of them; the last move first.
    pub async fn history(
        &self,
        owner: &Did,
        name: &RepositoryName,
        tag: Option<&Tag>,
        page: &PageRequest,
    ) -> Result<Listed<TagMove>, IndexError> {
        let before = match page.after()? {
            Some(after) => after.exactly::<1>()?[0],
            None => i64::MAX,
        };
        let rows: Vec<(i64, String, Option<Vec<u8>>, i64, i64)> = match tag {
            Some(tag) => all!(
                &self.database().read,
                "SELECT h.id, h.tag, h.digest, h.at, h.rev FROM repos o JOIN tag_history h ON h.repo = o.id \
                 WHERE o.did = $1 AND o.status = 'active' AND h.repository = $2 AND h.tag = $3 AND h.id < $4 \
                 ORDER BY h.id DESC LIMIT $5",
                owner.as_str(),
                name.as_str(),
                tag.as_str(),
                before,
                page.fetch()
            ),
            None => all!(
                &self.database().read,
                "SELECT h.id, h.tag, h.digest, h.at, h.rev FROM repos o JOIN tag_history h ON h.repo = o.id \
                 WHERE o.did = $1 AND o.status = 'active' AND h.repository = $2 AND h.id < $3 \
                 ORDER BY h.id DESC LIMIT $4",
                owner.as_str(),
                name.as_str(),
                before,
                page.fetch()
            ),
        };
        let items: Vec<(i64, TagMove)> = rows
            .into_iter()
            .map(|(id, tag, points_at, at, rev)| {
                let rev = super::apply::revision(rev);
                Ok((id, TagMove { tag: parsed(&tag)?, digest: digest(points_at)?, at: moment(at), rev }))
            })
            .collect::<Result<_, IndexError>>()?;
        let cut = Listed::cut(items, page, |(id, _)| PageCursor(vec![*id]).to_string());
        Ok(Listed { items: cut.items.into_iter().map(|(_, moved)| moved).collect(), next: cut.next })
    }

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

    /// Somebody's settings; `None` where there are none.
    pub async fn profile(&self, did: &Did) -> Result<Option<Profile>, IndexError> {
        let row: Option<(Option<String>, i64, Option<String>, Option<String>)> = first!(
            &self.database().read,
            "SELECT p.default_hold, p.auto_remove_untagged, p.oci_client, p.registry_domain \
             FROM profiles p JOIN repos o ON o.id = p.repo WHERE o.did = $1 AND p.rkey = 'self'",
            did.as_str()
        );
        Ok(row.map(|(hold, auto_remove, oci_client, registry_domain)| Profile {
            default_hold: optional(hold),
            auto_remove_untagged: auto_remove != 0,
            oci_client,
            registry_domain,
        }))
    }

    /// Who owns a hold and how it is open, as the hold itself says.
    pub async fn captain(&self, hold: &Did) -> Result<Option<Captain>, IndexError> {
        let row: Option<(String, i64, i64, Option<String>, Option<String>)> = first!(
            &self.database().read,
            "SELECT c.owner, c.public, c.allow_all_crew, c.region, c.successor FROM captains c \
             JOIN repos h ON h.id = c.repo WHERE h.did = $1 AND h.status = 'active' AND c.rkey = 'self'",
            hold.as_str()
        );
        row.map(captain).transpose()
    }

    /// The crew of a hold, in the order of their DIDs: at most 1,000.
    pub async fn crew(&self, hold: &Did) -> Result<Vec<CrewMember>, IndexError> {
        let rows: Vec<(String, Option<String>, String, String, Option<String>)> = all!(
            &self.database().read,
            "SELECT c.member, m.handle, c.role, c.permissions, c.tier FROM crew c JOIN repos h ON h.id = c.repo \
             LEFT JOIN repos m ON m.did = c.member WHERE h.did = $1 AND h.status = 'active' ORDER BY c.member LIMIT $2",
            hold.as_str(),
            MOST
        );
        let member = |(member, handle, role, permissions, tier): (String, _, _, String, _)| {
            Ok(CrewMember {
                member: parsed(&member)?,
                handle: optional(handle),
                role,
                permissions: serde_json::from_str(&permissions).unwrap_or_default(),
                tier,
            })
        };
        rows.into_iter().map(member).collect()
    }

    /// The holds that an account can push to: its own, those whose crew it is of, and those that anybody may join. At
    /// most 1,000, the closest first.
    pub async fn holds_for(&self, did: &Did) -> Result<Vec<HoldChoice>, IndexError> {
        type Row = (String, i64, String, i64, i64, Option<String>, Option<String>);
        let rows: Vec<Row> = all!(
            &self.database().read,
            "SELECT hold, relation, owner, public, allow_all_crew, region, successor FROM \
             (SELECT h.did AS hold, CASE WHEN c.owner = $1 THEN 0 \
             WHEN EXISTS (SELECT 1 FROM crew w WHERE w.repo = c.repo AND w.member = $1) THEN 1 \
             WHEN c.allow_all_crew <> 0 THEN 2 ELSE 3 END AS relation, \
             c.owner AS owner, c.public AS public, c.allow_all_crew AS allow_all_crew, c.region AS region, \
             c.successor AS successor FROM captains c JOIN repos h ON h.id = c.repo \
             WHERE h.status = 'active' AND c.rkey = 'self') AS holds WHERE relation < 3 ORDER BY relation, hold LIMIT $2",
            did.as_str(),
            MOST
        );
        let choice = |(hold, relation, owner, public, all_crew, region, successor): Row| {
            let relation = match relation {
                0 => HoldRelation::Captain,
                1 => HoldRelation::Crew,
                _ => HoldRelation::Open,
            };
            let captain = captain((owner, public, all_crew, region, successor))?;
            Ok(HoldChoice { hold: parsed(&hold)?, relation, captain })
        };
        rows.into_iter().map(choice).collect()
    }
}

fn captain(row: (String, i64, i64, Option<String>, Option<String>)) -> Result<Captain, IndexError> {
    let (owner, public, allow_all_crew, region, successor) = row;
    Ok(Captain {
        owner: parsed(&owner)?,
        public: public != 0,
        allow_all_crew: allow_all_crew != 0,
        region,
        successor: optional(successor),
    })
}
