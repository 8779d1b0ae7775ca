//! All blobs that a hold has or should have, for those who go through them one by one.

use atcr_core::oci::Digest;
use sqlx::Row as _;

use super::ledger::{Ledger, Result, decode, integer, object_key, size};
use crate::database;
use crate::storage::ObjectKey;

/// Blobs that the database knows: those that it has, and those that only layer records name, which stand where
/// distribution's layout has them.
const CANDIDATES: &str = "
    select digest, object_key, size from blobs
    union all
    select digest, null as object_key, max(size) as size from layers
    where not exists (select 1 from blobs where blobs.digest = layers.digest)
    and not exists (select 1 from pending where pending.digest = layers.digest)
    group by digest";

/// Candidates read at once.
const PAGE: u32 = 500;

/// A blob that should be there.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) digest: Digest,
    /// Where the database has it; `None` when it does not have it.
    pub(crate) listed: Option<ObjectKey>,
    pub(crate) size: u64,
}

impl Candidate {
    /// Where its bytes are.
    pub(crate) fn key(&self) -> ObjectKey {
        self.listed.clone().unwrap_or_else(|| ObjectKey::of_blob(&self.digest))
    }
}

impl Ledger {
    /// How many candidates there are that `done`, a condition on `digest`, does not hold for, and their bytes.
    pub(crate) async fn left(&self, done: &str, target: &str) -> Result<(u64, u64)> {
        let sum = format!(
            "select count(*) as blobs, coalesce(sum(size), 0) as bytes from ({CANDIDATES}) as c where not ({done})"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sum)).bind(target).fetch_one(&self.pool).await?;
        Ok((size(&row, "blobs")?, size(&row, "bytes")?))
    }

    /// The next candidates behind `last` that `done` does not hold for, in the order of their digests.
    pub(crate) async fn candidates(
        &self,
        done: &str,
        target: &str,
        last: Option<&Digest>,
    ) -> Result<Vec<Candidate>> {
        let page = format!(
            "select * from ({CANDIDATES}) as c where not ({done}) and digest > ?2 order by digest limit {PAGE}"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(page)).bind(target);
        let rows = rows.bind(last.map(ToString::to_string).unwrap_or_default());
        let rows = rows.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let listed = row.try_get::<Option<String>, _>("object_key")?;
                Ok(Candidate {
                    digest: row.try_get::<String, _>("digest")?.parse().map_err(decode)?,
                    listed: listed.map(ObjectKey::try_from).transpose().map_err(decode)?,
                    size: size(row, "size")?,
                })
            })
            .collect()
    }

    /// Whether the database still says of the blob what it said.
    pub(crate) async fn is_unchanged(&self, candidate: &Candidate) -> Result<bool> {
        let row = sqlx::query("select object_key from blobs where digest = ?");
        let row = row.bind(candidate.digest.to_string()).fetch_optional(&self.pool).await?;
        let key = row.as_ref().map(object_key).transpose()?;
        Ok(key == candidate.listed)
    }

    /// Locks bytes away that went bad in the storage: nobody gets them any more. False when they are not the blob's any
    /// more.
    pub(crate) async fn condemn(&self, candidate: &Candidate, actual: &Digest, now: i64) -> Result<bool> {
        let key = candidate.key();
        let mut tx = database::write(&self.pool).await?;
        let removed = sqlx::query("delete from blobs where digest = ? and object_key = ?");
        let removed = removed.bind(candidate.digest.to_string()).bind(key.as_str()).execute(&mut *tx).await?;
        if candidate.listed.is_some() && removed.rows_affected() == 0 {
            return Ok(false);
        }
        let known = sqlx::query_scalar::<_, i64>(
            "select 1 from quarantine where object_key = ? and removed is null limit 1",
        );
        if known.bind(key.as_str()).fetch_optional(&mut *tx).await?.is_none() {
            sqlx::query(
                "insert into quarantine
                 (upload, storage_upload, digest, actual, uploader, object_key, size, found)
                 values ('', '', ?, ?, '', ?, ?, ?)",
            )
            .bind(candidate.digest.to_string())
            .bind(actual.to_string())
            .bind(key.as_str())
            .bind(integer(candidate.size))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets a blob whose bytes are gone, so that it counts as missing everywhere.
    pub(crate) async fn forget_missing(&self, candidate: &Candidate) -> Result<()> {
        let Some(key) = &candidate.listed else { return Ok(()) };
        let forgotten = sqlx::query("delete from blobs where digest = ? and object_key = ?");
        forgotten.bind(candidate.digest.to_string()).bind(key.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// What a scrub found of a blob, kept until the scrub has come to its end.
    pub(crate) async fn note_scrubbed(&self, digest: &Digest, finding: Option<&str>) -> Result<()> {
        let note = sqlx::query("insert or replace into scrubbed (digest, finding) values (?, ?)");
        note.bind(digest.to_string()).bind(finding).execute(&self.pool).await?;
        Ok(())
    }

    /// How many blobs the scrub that goes on has been through, and what it found wrong, as JSON.
    pub(crate) async fn scrubbed(&self) -> Result<(u64, Vec<String>)> {
        let count =
            sqlx::query_scalar::<_, i64>("select count(*) from scrubbed").fetch_one(&self.pool).await?;
        let found = sqlx::query_scalar::<_, String>(
            "select finding from scrubbed where finding is not null order by digest",
        );
        Ok((u64::try_from(count).map_err(decode)?, found.fetch_all(&self.pool).await?))
    }

    /// Begins the next scrub from the beginning.
    pub(crate) async fn end_scrub(&self) -> Result<()> {
        sqlx::query("delete from scrubbed").execute(&self.pool).await?;
        Ok(())
    }
}
