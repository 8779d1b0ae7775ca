//! Tags and where they have been.

use atcr_core::oci::{Digest, RepositoryName, Tag};
use atcr_core::syntax::Did;

use super::row::{digest, moment, optional, parsed};
use super::{MOST, TagEntry, TagMove};
use crate::index::apply::revision;
use crate::index::database::all;
use crate::index::lookup::unsigned;
use crate::index::page::{Listed, PageCursor, PageRequest};
use crate::index::{Index, IndexError};

impl Index {
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
                let rev = revision(rev);
                Ok((id, TagMove { tag: parsed(&tag)?, digest: digest(points_at)?, at: moment(at), rev }))
            })
            .collect::<Result<_, IndexError>>()?;
        let cut = Listed::cut(items, page, |(id, _)| PageCursor(vec![*id]).to_string());
        Ok(Listed { items: cut.items.into_iter().map(|(_, moved)| moved).collect(), next: cut.next })
    }
}
