//! What has happened lately, for those who tell others of it.

use atcr_core::oci::{Digest, RepositoryName, Tag};
use atcr_core::records::SeverityCounts;
use atcr_core::syntax::{Did, Tid};
use jiff::Timestamp;

use super::row::{digest, moment, parsed};
use crate::index::apply::{number, revision};
use crate::index::database::all;
use crate::index::lookup::{digest_of, unsigned};
use crate::index::page::{Listed, PageCursor, PageRequest};
use crate::index::{Index, IndexError};

/// Where a tag went.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentMove {
    /// The repository, without its owner.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Where it points from then on; `None` when it was removed.
    pub digest: Option<Digest>,
    /// The revision of the commit that did it; for what was there when the index read the repo, that of the reading.
    pub rev: Tid,
    /// When that revision was made.
    pub at: Timestamp,
    /// When the tag's own record says that it was written: long before `at` for a tag that was only found then. 1970
    /// when it does not say.
    pub written_at: Timestamp,
}

/// What a scanner found in somebody's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentScan {
    /// The hold that says so.
    pub hold: Did,
    /// The repository, without its owner.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
    /// How many vulnerabilities.
    pub counts: SeverityCounts,
    /// `ok`, `failed`, `skipped`, or a word that is newer than this program.
    pub status: String,
    /// The scanner.
    pub scanner: String,
    /// When.
    pub scanned_at: Timestamp,
}

impl Index {
    /// Where the tags of an account went since then, in the order of the commits.
    pub async fn moves_since(
        &self,
        owner: &Did,
        since: Timestamp,
        page: &PageRequest,
    ) -> Result<Listed<RecentMove>, IndexError> {
        let [rev, id] = match page.after()? {
            Some(after) => after.exactly()?,
            None => {
                [number(Tid::new(u64::try_from(since.as_microsecond()).unwrap_or_default(), 0)) - 1, i64::MAX]
            }
        };
        let rows: Vec<(i64, String, String, Option<Vec<u8>>, i64, i64, i64)> = all!(
            &self.database().read,
            "SELECT h.id, h.repository, h.tag, h.digest, h.rev, h.at, h.written_at \
             FROM repos o JOIN tag_history h ON h.repo = o.id \
             WHERE o.did = $1 AND o.status = 'active' AND (h.rev, h.id) > ($2, $3) ORDER BY h.rev, h.id LIMIT $4",
            owner.as_str(),
            rev,
            id,
            page.fetch()
        );
        let items: Vec<([i64; 2], RecentMove)> = rows
            .into_iter()
            .map(|(id, repository, tag, points_at, rev, at, written_at)| {
                let moved = RecentMove {
                    repository: parsed(&repository)?,
                    tag: parsed(&tag)?,
                    digest: digest(points_at)?,
                    rev: revision(rev),
                    at: moment(at),
                    written_at: moment(written_at),
                };
                Ok(([rev, id], moved))
            })
            .collect::<Result<_, IndexError>>()?;
        let cut = Listed::cut(items, page, |(place, _)| PageCursor(place.to_vec()).to_string());
        Ok(Listed { items: cut.items.into_iter().map(|(_, moved)| moved).collect(), next: cut.next })
    }

    /// What scanners found in the manifests of an account since then, the newest first. Only holds that the account's
    /// manifests name are heard: anybody can publish a scan.
    pub async fn scans_since(
        &self,
        owner: &Did,
        since: Timestamp,
        page: &PageRequest,
    ) -> Result<Listed<RecentScan>, IndexError> {
        type Row = (i64, String, String, Vec<u8>, String, i64, i64, i64, i64, i64, String, String, i64);
        // A time, the number of a repo and a record key, which may have colons.
        let bad = |text: &str| IndexError::Cursor(text.chars().take(64).collect());
        let (time, repo, rkey) = match page.cursor.as_deref() {
            Some(text) => {
                let mut parts = text.splitn(3, ':');
                let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(|| bad(text));
                (number()?, number()?, parts.next().ok_or_else(|| bad(text))?.to_owned())
            }
            None => (i64::MAX, 0, String::new()),
        };
        let rows: Vec<Row> = all!(
            &self.database().read,
            "SELECT s.repo, s.rkey, h.did, s.digest, s.repository, s.critical, s.high, s.medium, s.low, s.total, \
             s.status, s.scanner, s.scanned_at FROM scans s JOIN repos h ON h.id = s.repo \
             WHERE s.owner = $1 AND s.scanned_at >= $2 AND h.status = 'active' AND EXISTS \
             (SELECT 1 FROM manifests m JOIN repos o ON o.id = m.repo \
             WHERE o.did = $1 AND o.status = 'active' AND m.hold = h.did) AND (s.scanned_at < $3 OR \
             (s.scanned_at = $3 AND (s.repo > $4 OR (s.repo = $4 AND s.rkey > $5)))) \
             ORDER BY s.scanned_at DESC, s.repo, s.rkey LIMIT $6",
            owner.as_str(),
            since.as_millisecond(),
            time,
            repo,
            rkey,
            page.fetch()
        );
        let items: Vec<(String, RecentScan)> = rows
            .into_iter()
            .map(|row| {
                let (
                    repo,
                    rkey,
                    hold,
                    digest,
                    repository,
                    critical,
                    high,
                    medium,
                    low,
                    total,
                    status,
                    scanner,
                    at,
                ) = row;
                let [critical, high, medium, low, total] = [critical, high, medium, low, total].map(unsigned);
                let scan = RecentScan {
                    hold: parsed(&hold)?,
                    repository: parsed(&repository)?,
                    digest: digest_of(&digest)?,
                    counts: SeverityCounts { critical, high, medium, low, total },
                    status,
                    scanner,
                    scanned_at: moment(at),
                };
                Ok((format!("{at}:{repo}:{rkey}"), scan))
            })
            .collect::<Result<_, IndexError>>()?;
        let cut = Listed::cut(items, page, |(place, _)| place.clone());
        Ok(Listed { items: cut.items.into_iter().map(|(_, scan)| scan).collect(), next: cut.next })
    }
}
