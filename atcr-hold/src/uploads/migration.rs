//! What the database keeps of blobs on their way to another storage.

use atcr_core::oci::Digest;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::ledger::{Ledger, Result, decode, integer, object_key, size};
use crate::database;
use crate::storage::{ObjectKey, StorageUpload};

/// A blob on its way.
#[derive(Debug, Clone)]
pub(crate) struct Migration {
    pub(crate) digest: Digest,
    /// The upload at the other storage.
    pub(crate) upload: StorageUpload,
    /// Where it is there, once it is there whole and right.
    pub(crate) key: Option<ObjectKey>,
    pub(crate) size: u64,
}

impl Migration {
    fn read(row: &SqliteRow) -> Result<Self> {
        let key = row.try_get::<String, _>("object_key")?;
        Ok(Self {
            digest: row.try_get::<String, _>("digest")?.parse().map_err(decode)?,
            upload: StorageUpload(row.try_get("storage_upload")?),
            key: if key.is_empty() { None } else { Some(object_key(row)?) },
            size: size(row, "size")?,
        })
    }
}

impl Ledger {
    /// Blobs whose way was broken off.
    pub(crate) async fn unfinished(&self, target: &str) -> Result<Vec<Migration>> {
        let rows = sqlx::query("select * from migrated where target = ? and placed = 0").bind(target);
        rows.fetch_all(&self.pool).await?.iter().map(Migration::read).collect()
    }

    pub(crate) async fn migration(&self, target: &str, digest: &Digest) -> Result<Option<Migration>> {
        let row = sqlx::query("select * from migrated where target = ? and digest = ?");
        let row = row.bind(target).bind(digest.to_string()).fetch_optional(&self.pool).await?;
        row.as_ref().map(Migration::read).transpose()
    }

    /// Notes an upload, so that it is ended if this process does not come to its end.
    pub(crate) async fn begin_migration(
        &self,
        target: &str,
        digest: &Digest,
        upload: &StorageUpload,
    ) -> Result<()> {
        let begun = sqlx::query(
            "insert or replace into migrated (target, digest, storage_upload, object_key, size)
             values (?, ?, ?, '', 0)",
        );
        begun.bind(target).bind(digest.to_string()).bind(&upload.0).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes where a blob is that is whole and right.
    pub(crate) async fn migrated(
        &self,
        target: &str,
        digest: &Digest,
        key: &ObjectKey,
        size: u64,
        placed: bool,
    ) -> Result<()> {
        let there = sqlx::query(
            "update migrated set object_key = ?, size = ?, placed = ? where target = ? and digest = ?",
        );
        let there = there.bind(key.as_str()).bind(integer(size)).bind(placed);
        there.bind(target).bind(digest.to_string()).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn unmigrate(&self, target: &str, digest: &Digest) -> Result<()> {
        let gone = sqlx::query("delete from migrated where target = ? and digest = ?");
        gone.bind(target).bind(digest.to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that a blob stands under another key of the same storage.
    pub(crate) async fn moved(&self, digest: &Digest, from: &ObjectKey, to: &ObjectKey) -> Result<()> {
        let moved = sqlx::query("update blobs set object_key = ? where digest = ? and object_key = ?");
        let moved = moved.bind(to.as_str()).bind(digest.to_string()).bind(from.as_str());
        moved.execute(&self.pool).await?;
        Ok(())
    }

    /// What is at the other storage of blobs that were deleted meanwhile.
    pub(crate) async fn left_over(&self, target: &str) -> Result<Vec<ObjectKey>> {
        let rows = sqlx::query(
            "select object_key from migrated where target = ? and object_key <> ''
             and not exists (select 1 from blobs where blobs.digest = migrated.digest)
             and not exists (select 1 from layers where layers.digest = migrated.digest)",
        );
        rows.bind(target).fetch_all(&self.pool).await?.iter().map(object_key).collect()
    }

    /// Makes the other storage the one that the database speaks of.
    pub(crate) async fn switch(&self, target: &str, now: i64) -> Result<()> {
        let mut tx = database::write(&self.pool).await?;
        sqlx::query(
            "update blobs set object_key =
             (select object_key from migrated where migrated.digest = blobs.digest and target = ?)",
        )
        .bind(target)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "insert or ignore into blobs (digest, object_key, size, verified_at)
             select digest, object_key, size, ? from migrated where target = ?
             and exists (select 1 from layers where layers.digest = migrated.digest)",
        )
        .bind(now)
        .bind(target)
        .execute(&mut *tx)
        .await?;
        // What is to be removed is at the old storage, which is left as it is.
        sqlx::query("update quarantine set removed = ? where removed is null")
            .bind(now)
            .execute(&mut *tx)
            .await?;
        sqlx::raw_sql("delete from superseded; delete from migrated; delete from scrubbed")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
