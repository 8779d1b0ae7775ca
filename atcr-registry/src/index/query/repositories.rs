//! Repositories and who starred them.

use std::collections::HashMap;

use atcr_core::oci::RepositoryName;
use atcr_core::syntax::Did;
use sqlx::AssertSqlSafe;

use super::RepositoryEntry;
use super::row::{RepositoryRow, repository, repository_columns};
use crate::index::database::{all, first};
use crate::index::page::{Listed, PageCursor, PageRequest};
use crate::index::{Index, IndexError};

/// Clocks of strangers run ahead of ours by this much, in milliseconds, before what they say is not shown as recent.
const AHEAD: i64 = 5 * 60 * 1000;

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
    pub(in crate::index) async fn repositories_by_id(
        &self,
        ids: &[i64],
    ) -> Result<Vec<RepositoryEntry>, IndexError> {
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

    pub(super) async fn repository_id(
        &self,
        owner: &Did,
        name: &RepositoryName,
    ) -> Result<Option<i64>, IndexError> {
        let row: Option<(i64,)> = first!(
            &self.database().read,
            "SELECT r.id FROM repos o JOIN repositories r ON r.repo = o.id \
             WHERE o.did = $1 AND o.status = 'active' AND r.name = $2",
            owner.as_str(),
            name.as_str()
        );
        Ok(row.map(|(id,)| id))
    }
}
