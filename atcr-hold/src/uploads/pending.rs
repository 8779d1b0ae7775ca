//! Blobs that nobody has hashed yet, and bytes that were found not to be what was said of them.

use atcr_core::methods::UploadId;
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::ledger::{Ledger, Result, decode, integer, object_key, size};
use crate::database;
use crate::storage::{Object, ObjectKey, StorageUpload};

/// A blob that waits to be hashed.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) upload: String,
    pub(super) storage_upload: StorageUpload,
    pub(super) digest: Digest,
    pub(super) uploader: String,
    pub(super) object: Object,
    pub(super) failures: u32,
}

/// Bytes in quarantine.
#[derive(Debug, Clone)]
pub(super) struct Quarantined {
    /// What they were said to be.
    pub(super) digest: Digest,
    /// What they are; `None` when they could not be read.
    pub(super) actual: Option<Digest>,
}

impl Pending {
    fn read(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            upload: row.try_get("upload")?,
            storage_upload: StorageUpload(row.try_get("storage_upload")?),
            digest: row.try_get::<String, _>("digest")?.parse().map_err(decode)?,
            uploader: row.try_get("uploader")?,
            object: Object { key: object_key(row)?, size: size(row, "size")? },
            failures: row.try_get("failures")?,
        })
    }
}

impl Ledger {
    /// Where the bytes are that somebody uploaded as this blob and that nobody has hashed yet.
    pub(super) async fn pending_of(
        &self,
        digest: &Digest,
        uploader: &Did,
    ) -> Result<Option<(ObjectKey, u64)>> {
        let row = sqlx::query(
            "select object_key, size from pending where digest = ? and uploader = ? order by added desc limit 1",
        );
        let row = row.bind(digest.to_string()).bind(uploader.as_str()).fetch_optional(&self.pool).await?;
        row.map(|row| Ok((object_key(&row)?, size(&row, "size")?))).transpose()
    }

    /// Whether it matters to somebody who asks for this blob which account they are.
    pub(super) async fn is_disputed(&self, digest: &Digest) -> Result<bool> {
        let disputed = sqlx::query_scalar::<_, i64>(
            "select exists (select 1 from pending where digest = ?1)
             or exists (select 1 from quarantine where digest = ?1 and uploader <> '')",
        );
        Ok(disputed.bind(digest.to_string()).fetch_one(&self.pool).await? == 1)
    }

    /// What became of the bytes that somebody uploaded as this blob, when that was found to be wrong.
    pub(super) async fn quarantined(&self, digest: &Digest, uploader: &Did) -> Result<Option<Quarantined>> {
        let row = sqlx::query(
            "select digest, actual from quarantine where digest = ? and uploader = ? order by id desc limit 1",
        );
        let row = row.bind(digest.to_string()).bind(uploader.as_str());
        row.fetch_optional(&self.pool).await?.as_ref().map(quarantined).transpose()
    }

    /// As [`Ledger::quarantined`], by the upload.
    pub(super) async fn quarantined_upload(&self, upload: &UploadId) -> Result<Option<Quarantined>> {
        let row = sqlx::query("select digest, actual from quarantine where upload = ?");
        let row = row.bind(upload.as_str()).fetch_optional(&self.pool).await?;
        row.as_ref().map(quarantined).transpose()
    }

    /// Whether an object is in quarantine.
    pub(super) async fn is_quarantined(&self, key: &ObjectKey) -> Result<bool> {
        let known = sqlx::query_scalar::<_, i64>(
            "select 1 from quarantine where object_key = ? and removed is null limit 1",
        );
        Ok(known.bind(key.as_str()).fetch_optional(&self.pool).await?.is_some())
    }

    /// Takes the blob that has waited longest, for `seconds`; nobody else gets it meanwhile.
    pub(super) async fn take(&self, worker: &str, now: i64, seconds: i64) -> Result<Option<Pending>> {
        let row = sqlx::query(
            "update pending set worker = ?1, leased = ?3
             where upload = (select upload from pending where leased <= ?2 order by failures, added limit 1)
             returning *",
        );
        let row = row.bind(worker).bind(now).bind(now.saturating_add(seconds));
        row.fetch_optional(&self.pool).await?.as_ref().map(Pending::read).transpose()
    }

    /// As [`Ledger::take`], one with this digest of at most so many bytes.
    pub(super) async fn take_wanted(
        &self,
        digest: &Digest,
        most: u64,
        worker: &str,
        now: i64,
        seconds: i64,
    ) -> Result<Option<Pending>> {
        let row = sqlx::query(
            "update pending set worker = ?1, leased = ?3
             where upload = (select upload from pending where leased <= ?2 and digest = ?4 and size <= ?5
                             order by failures, added limit 1)
             returning *",
        );
        let row = row.bind(worker).bind(now).bind(now.saturating_add(seconds));
        let row = row.bind(digest.to_string()).bind(integer(most));
        row.fetch_optional(&self.pool).await?.as_ref().map(Pending::read).transpose()
    }

    /// Whether a blob of at most so many bytes waits.
    pub(super) async fn waits(&self, digest: &Digest, most: u64) -> Result<bool> {
        let waits =
            sqlx::query_scalar::<_, i64>("select 1 from pending where digest = ? and size <= ? limit 1");
        let waits = waits.bind(digest.to_string()).bind(integer(most));
        Ok(waits.fetch_optional(&self.pool).await?.is_some())
    }

    /// Keeps a blob for longer. False when somebody else has it now.
    pub(super) async fn keep(&self, pending: &Pending, worker: &str, until: i64) -> Result<bool> {
        let kept = sqlx::query("update pending set leased = ? where upload = ? and worker = ?");
        let kept = kept.bind(until).bind(&pending.upload).bind(worker);
        Ok(kept.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Gives a blob back that could not be read, to be tried again at a later time.
    pub(super) async fn put_back(&self, pending: &Pending, worker: &str, at: i64) -> Result<()> {
        let back = sqlx::query(
            "update pending set worker = null, leased = ?, failures = failures + 1 where upload = ? and worker = ?",
        );
        back.bind(at).bind(&pending.upload).bind(worker).execute(&self.pool).await?;
        Ok(())
    }

    /// Frees what a process that has ended was at. Only for who has the database alone.
    pub(crate) async fn free_all(&self) -> Result<()> {
        sqlx::query("update pending set worker = null, leased = 0 where worker is not null")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many blobs wait.
    pub(super) async fn waiting(&self) -> Result<u64> {
        let count =
            sqlx::query_scalar::<_, i64>("select count(*) from pending").fetch_one(&self.pool).await?;
        u64::try_from(count).map_err(decode)
    }

    /// Makes a blob visible to everybody: its bytes are right, and under `key`. False when it was not this worker's any
    /// more.
    pub(super) async fn admit(
        &self,
        pending: &Pending,
        worker: &str,
        key: &ObjectKey,
        now: i64,
    ) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        if !remove(&mut tx, pending, worker).await? {
            return Ok(false);
        }
        super::ledger::put_blob(&mut tx, &pending.digest, key, pending.object.size, now, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Forgets a blob whose bytes are not needed. False as above.
    pub(super) async fn forget(&self, pending: &Pending, worker: &str) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        let removed = remove(&mut tx, pending, worker).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// Locks bytes away that are not what was said. False as above.
    pub(super) async fn lock_away(
        &self,
        pending: &Pending,
        worker: &str,
        actual: Option<&Digest>,
        now: i64,
    ) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        if !remove(&mut tx, pending, worker).await? {
            return Ok(false);
        }
        sqlx::query(
            "insert into quarantine
             (upload, storage_upload, digest, actual, uploader, object_key, size, found, removed)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&pending.upload)
        .bind(&pending.storage_upload.0)
        .bind(pending.digest.to_string())
        .bind(actual.map(ToString::to_string))
        .bind(&pending.uploader)
        .bind(pending.object.key.as_str())
        .bind(integer(pending.object.size))
        .bind(now)
        .bind(actual.is_none().then_some(now))
        .execute(&mut *tx)
        .await?;
        // They have nothing of that name, unless the hold has it from somebody else.
        sqlx::query(
            "delete from claims where digest = ?1 and owner = ?2
             and not exists (select 1 from blobs where digest = ?1)
             and not exists (select 1 from pending where digest = ?1 and uploader = ?2)",
        )
        .bind(pending.digest.to_string())
        .bind(&pending.uploader)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Quarantined bytes that were found before `before` and are still there.
    pub(super) async fn stale_quarantine(&self, before: i64) -> Result<Vec<(i64, StorageUpload, ObjectKey)>> {
        let rows = sqlx::query(
            "select id, storage_upload, object_key from quarantine where removed is null and found <= ? limit 1000",
        );
        let rows = rows.bind(before).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                Ok((row.try_get("id")?, StorageUpload(row.try_get("storage_upload")?), object_key(row)?))
            })
            .collect()
    }

    /// Notes that quarantined bytes are gone.
    pub(super) async fn emptied(&self, id: i64, now: i64) -> Result<()> {
        let emptied = sqlx::query("update quarantine set removed = ? where id = ?").bind(now).bind(id);
        emptied.execute(&self.pool).await?;
        Ok(())
    }
}

fn quarantined(row: &SqliteRow) -> Result<Quarantined> {
    let actual: Option<String> = row.try_get("actual")?;
    Ok(Quarantined {
        digest: row.try_get::<String, _>("digest")?.parse().map_err(decode)?,
        actual: actual.map(|actual| actual.parse().map_err(decode)).transpose()?,
    })
}

/// Takes a blob out of the queue, if it is still this worker's.
async fn remove(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    pending: &Pending,
    worker: &str,
) -> Result<bool> {
    let removed = sqlx::query("delete from pending where upload = ? and worker = ?");
    let removed = removed.bind(&pending.upload).bind(worker).execute(&mut **tx).await?;
    Ok(removed.rows_affected() == 1)
}
