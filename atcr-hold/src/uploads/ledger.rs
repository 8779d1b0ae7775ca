use atcr_core::Source;
use atcr_core::methods::UploadId;
use atcr_core::oci::{Algorithm, Digest, Hasher, RepositoryName};
use atcr_core::syntax::Did;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, SqlitePool};

use super::claims::claim;
use super::{UploadError, quota};
use crate::database;
use crate::storage::{Object, ObjectKey, Part, PartNumber, StorageUpload};

/// The upload sessions and blobs in the hold's database.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(super) pool: SqlitePool,
}

/// An upload session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) uploader: Did,
    pub(super) storage_upload: StorageUpload,
    pub(super) algorithm: Algorithm,
    /// What it is for, without the owner, who is the uploader.
    pub(super) repository: Option<RepositoryName>,
    /// Whether the uploader was given an address of the storage.
    pub(super) direct: bool,
    /// How many bytes the uploader may store.
    pub(super) allowed: Option<u64>,
    pub(super) state: State,
}

/// How far a session is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Parts come in.
    Open,
    /// Digest and number of parts are fixed.
    Completing { digest: Digest },
    /// The object has that digest.
    Verified { digest: Digest, object: ObjectKey, size: u64 },
    /// The blob is there.
    Completed { digest: Digest, size: u64 },
    /// It is being thrown away.
    Ending,
}

/// Where the bytes of a blob are whose upload ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Where they were before: the hold had the blob already.
    Present,
    /// Here, and right.
    Verified(&'a ObjectKey),
    /// Here, and right if the uploader is to be believed.
    Trusted(&'a ObjectKey),
    /// Here; whether they are right will be seen.
    Pending(&'a Object),
}

pub(super) type Result<T> = std::result::Result<T, sqlx::Error>;

pub(super) fn decode(error: impl Into<Source>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn size(row: &SqliteRow, column: &str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(decode)
}

pub(super) fn object_key(row: &SqliteRow) -> Result<ObjectKey> {
    ObjectKey::try_from(row.try_get::<String, _>("object_key")?).map_err(decode)
}

/// Notes the sizes of parts that are not recorded yet.
async fn promise(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    id: &UploadId,
    parts: &[(PartNumber, u64)],
) -> Result<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut promised = QueryBuilder::new("insert into promised (upload, number, size) ");
    promised.push_values(parts, |mut row, (number, size)| {
        row.push_bind(id.as_str()).push_bind(number.get()).push_bind(integer(*size));
    });
    promised.push(" on conflict (upload, number) do update set size = excluded.size");
    promised.build().execute(&mut **tx).await?;
    Ok(())
}

/// Makes an object the blob that everybody gets under this digest.
pub(super) async fn put_blob(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    digest: &Digest,
    key: &ObjectKey,
    size: u64,
    now: i64,
    verified_at: i64,
) -> Result<()> {
    // Two uploads of one blob can be verified at the same time: the later one takes the place.
    sqlx::query(
        "insert or ignore into superseded
         select object_key from blobs where digest = ? and object_key <> ?",
    )
    .bind(digest.to_string())
    .bind(key.as_str())
    .execute(&mut **tx)
    .await?;
    let here = sqlx::query("delete from superseded where object_key = ?").bind(key.as_str());
    here.execute(&mut **tx).await?;
    sqlx::query(
        "insert into blobs (digest, object_key, size, verified_at) values (?, ?, ?, ?)
         on conflict (digest) do update
         set object_key = excluded.object_key, size = excluded.size, verified_at = excluded.verified_at,
         unused_since = null",
    )
    .bind(digest.to_string())
    .bind(key.as_str())
    .bind(integer(size))
    .bind(verified_at)
    .execute(&mut **tx)
    .await?;
    // What lay there before has given way to it.
    let replaced = sqlx::query("update quarantine set removed = ? where object_key = ? and removed is null");
    replaced.bind(now).bind(key.as_str()).execute(&mut **tx).await?;
    Ok(())
}

impl Session {
    fn read(row: &SqliteRow) -> Result<Self> {
        let text = |column: &str| row.try_get::<String, _>(column);
        let digest = || text("digest")?.parse().map_err(decode);
        let state = match text("state")?.as_str() {
            "open" => State::Open,
            "completing" => State::Completing { digest: digest()? },
            "verified" => {
                State::Verified { digest: digest()?, object: object_key(row)?, size: size(row, "size")? }
            }
            "completed" => State::Completed { digest: digest()?, size: size(row, "size")? },
            "ending" => State::Ending,
            other => return Err(decode(format!("{other:?} is not the state of an upload"))),
        };
        Ok(Self {
            id: text("id")?.parse().map_err(decode)?,
            uploader: text("uploader")?.parse().map_err(decode)?,
            storage_upload: StorageUpload(text("storage_upload")?),
            algorithm: text("algorithm")?.parse().map_err(decode)?,
            repository: text("repository")?.parse().ok(),
            direct: row.try_get("direct")?,
            allowed: row
                .try_get::<Option<i64>, _>("allowed")?
                .map(u64::try_from)
                .transpose()
                .map_err(decode)?,
            state,
        })
    }
}

/// A name for this run of the machine, from its kernel; it changes when the page cache is lost.
async fn boot_id() -> Option<String> {
    tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await.ok()
}

impl Ledger {
    /// Uses the hold's database. Hashes from before a restart of the machine are forgotten: they are of bytes that
    /// may not have reached the disk.
    pub(super) async fn open(pool: SqlitePool) -> Result<Self> {
        let boot = boot_id().await;
        if boot.is_none() || boot != database::meta(&pool, "boot").await? {
            sqlx::query("update parts set hash_state = null").execute(&pool).await?;
            database::set_meta(&pool, "boot", &boot.unwrap_or_default()).await?;
        }
        Ok(Self { pool })
    }

    pub(super) async fn insert(&self, session: &Session, now: i64) -> Result<()> {
        sqlx::query(
            "insert into uploads (id, uploader, storage_upload, algorithm, repository, allowed, created, used)
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.id.as_str())
        .bind(session.uploader.as_str())
        .bind(&session.storage_upload.0)
        .bind(session.algorithm.as_str())
        .bind(session.repository.as_ref().map_or("", RepositoryName::as_str))
        .bind(session.allowed.map(integer))
        .bind(now)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn session(&self, id: &UploadId) -> Result<Option<Session>> {
        let row = sqlx::query("select * from uploads where id = ?").bind(id.as_str());
        row.fetch_optional(&self.pool).await?.as_ref().map(Session::read).transpose()
    }

    pub(super) async fn touch(&self, id: &UploadId, now: i64) -> Result<()> {
        let touched = sqlx::query("update uploads set used = ? where id = ?").bind(now).bind(id.as_str());
        touched.execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the uploader gets addresses for these parts, each with its size where that is known. False when the
    /// session takes no parts any more.
    pub(super) async fn promise(
        &self,
        id: &UploadId,
        parts: &[(PartNumber, Option<u64>)],
        now: i64,
    ) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        let open = sqlx::query("update uploads set direct = 1, used = ? where id = ? and state = 'open'");
        if open.bind(now).bind(id.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let known: Vec<_> = parts.iter().filter_map(|(number, size)| Some((*number, (*size)?))).collect();
        promise(&mut tx, id, &known).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes that a part has so many bytes, which the hold keeps. False when the session takes no parts any more.
    pub(super) async fn note_piece(
        &self,
        id: &UploadId,
        number: PartNumber,
        size: u64,
        now: i64,
    ) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        let open = sqlx::query("update uploads set used = ? where id = ? and state = 'open'");
        if open.bind(now).bind(id.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        promise(&mut tx, id, &[(number, size)]).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The ETag of a part, and the hash of all bytes up to its end.
    pub(super) async fn hash_after(
        &self,
        id: &UploadId,
        number: PartNumber,
    ) -> Result<Option<(String, Option<Hasher>)>> {
        let row = sqlx::query("select etag, hash_state from parts where upload = ? and number = ?");
        let row = row.bind(id.as_str()).bind(number.get()).fetch_optional(&self.pool).await?;
        row.map(|row| {
            let state: Option<Vec<u8>> = row.try_get("hash_state")?;
            Ok((row.try_get("etag")?, state.as_deref().and_then(Hasher::from_state)))
        })
        .transpose()
    }

    /// Notes a part, in place of one with the same number. `hash` counts only while `after` is still the ETag of the
    /// part before it. False when the session takes no parts any more.
    pub(super) async fn record_part(
        &self,
        id: &UploadId,
        part: &Part,
        after: Option<&str>,
        hash: Option<&Hasher>,
        now: i64,
    ) -> Result<bool> {
        let mut tx = database::write(&self.pool).await?;
        let touched = sqlx::query("update uploads set used = ? where id = ? and state = 'open'");
        if touched.bind(now).bind(id.as_str()).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        let number = part.number.get();
        let before =
            sqlx::query_scalar::<_, String>("select etag from parts where upload = ? and number = ?");
        let before = before.bind(id.as_str()).bind(number - 1).fetch_optional(&mut *tx).await?;
        let hash = hash.filter(|_| before.as_deref() == after).map(Hasher::to_state);
        // What follows was hashed with another part before it.
        sqlx::query("update parts set hash_state = null where upload = ? and number > ?")
            .bind(id.as_str())
            .bind(number)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "insert into parts (upload, number, size, etag, hash_state) values (?, ?, ?, ?, ?)
             on conflict (upload, number) do update
             set size = excluded.size, etag = excluded.etag, hash_state = excluded.hash_state",
        )
        .bind(id.as_str())
        .bind(number)
        .bind(integer(part.size))
        .bind(&part.etag)
        .bind(hash)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The parts of a session by number.
    pub(super) async fn parts(&self, id: &UploadId) -> Result<Vec<Part>> {
        let rows = sqlx::query("select number, size, etag from parts where upload = ? order by number");
        let rows = rows.bind(id.as_str()).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                Ok(Part {
                    number: PartNumber::try_from(row.try_get::<u32, _>("number")?).map_err(decode)?,
                    size: size(row, "size")?,
                    etag: row.try_get("etag")?,
                })
            })
            .collect()
    }

    /// The last part up to `number` whose hash is known, and that hash.
    pub(super) async fn last_hash(&self, id: &UploadId, number: u32) -> Result<Option<(u32, Hasher)>> {
        let row = sqlx::query(
            "select number, hash_state from parts
             where upload = ? and number <= ? and hash_state is not null order by number desc limit 1",
        );
        let row = row.bind(id.as_str()).bind(number).fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let (number, state): (u32, Vec<u8>) = (row.try_get("number")?, row.try_get("hash_state")?);
        Ok(Hasher::from_state(&state).map(|hasher| (number, hasher)))
    }

    /// Fixes what an open session becomes. False unless it was open, or is to become just that already.
    pub(super) async fn begin_completion(
        &self,
        id: &UploadId,
        digest: &Digest,
        parts: u32,
        now: i64,
    ) -> Result<bool> {
        let fixed = sqlx::query(
            "update uploads
             set state = iif(state = 'open', 'completing', state), digest = ?1, parts = ?2, used = ?3
             where id = ?4
             and (state = 'open' or (state in ('completing', 'verified') and digest = ?1 and parts = ?2))",
        );
        let fixed = fixed.bind(digest.to_string()).bind(parts).bind(now).bind(id.as_str());
        Ok(fixed.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Lets parts come in again after a completion that changed nothing.
    pub(super) async fn reopen(&self, id: &UploadId) -> Result<()> {
        let reopened = sqlx::query("update uploads set state = 'open' where id = ? and state = 'completing'");
        reopened.bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// Notes that the object has the digest, if its uploader has room for it: from here on it will be a blob. False
    /// when the session is no longer being completed.
    pub(super) async fn verified(
        &self,
        session: &Session,
        digest: &Digest,
        object: &Object,
    ) -> std::result::Result<bool, UploadError> {
        let mut tx = database::write(&self.pool).await?;
        // Now alone: of two completions at once only one gets the last room.
        quota::check(&mut tx, session, digest, object.size).await?;
        let verified = sqlx::query(
            "update uploads set state = 'verified', object_key = ?, size = ?
             where id = ? and state in ('completing', 'verified')",
        );
        let verified =
            verified.bind(object.key.as_str()).bind(integer(object.size)).bind(session.id.as_str());
        let verified = verified.execute(&mut *tx).await?.rows_affected() == 1;
        tx.commit().await?;
        Ok(verified)
    }

    /// Ends the session with the blob in its place. False when the session has ended meanwhile.
    pub(super) async fn complete(
        &self,
        session: &Session,
        digest: &Digest,
        place: Place<'_>,
        size: u64,
        now: i64,
    ) -> std::result::Result<bool, UploadError> {
        let mut tx = database::write(&self.pool).await?;
        let completed = sqlx::query(
            "update uploads set state = 'completed', size = ?, used = ?
             where id = ? and state in ('completing', 'verified')",
        );
        let completed = completed.bind(integer(size)).bind(now).bind(session.id.as_str());
        if completed.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        if matches!(place, Place::Present | Place::Pending(_)) {
            quota::check(&mut tx, session, digest, size).await?;
        }
        match place {
            Place::Present => {}
            Place::Verified(key) => put_blob(&mut tx, digest, key, size, now, now).await?,
            Place::Trusted(key) => put_blob(&mut tx, digest, key, size, now, 0).await?,
            Place::Pending(object) => {
                sqlx::query(
                    "insert into pending (upload, storage_upload, digest, uploader, object_key, size, added)
                     values (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(session.id.as_str())
                .bind(&session.storage_upload.0)
                .bind(digest.to_string())
                .bind(session.uploader.as_str())
                .bind(object.key.as_str())
                .bind(integer(object.size))
                .bind(now)
                .execute(&mut *tx)
                .await?;
            }
        }
        claim(&mut tx, digest, &session.uploader, session.repository.as_ref()).await?;
        for table in ["parts", "promised"] {
            let rows = sqlx::AssertSqlSafe(format!("delete from {table} where upload = ?"));
            sqlx::query(rows).bind(session.id.as_str()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Marks a session for removal, so that nothing can complete it any more. False when it has been completed.
    pub(super) async fn end(&self, id: &UploadId) -> Result<bool> {
        let ended = sqlx::query("update uploads set state = 'ending' where id = ? and state <> 'completed'");
        Ok(ended.bind(id.as_str()).execute(&self.pool).await?.rows_affected() == 1)
    }

    pub(super) async fn remove(&self, id: &UploadId) -> Result<()> {
        sqlx::query("delete from uploads where id = ?").bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    /// At most `limit` sessions that were not used since `before`, and those whose removal was broken off.
    pub(super) async fn idle(&self, before: i64, limit: u32) -> Result<Vec<Session>> {
        let rows =
            sqlx::query("select * from uploads where used < ? or state = 'ending' order by used limit ?");
        let rows = rows.bind(before).bind(limit).fetch_all(&self.pool).await?;
        rows.iter().map(Session::read).collect()
    }

    /// Objects in whose place another one was put.
    pub(super) async fn superseded(&self) -> Result<Vec<ObjectKey>> {
        let rows = sqlx::query("select object_key from superseded limit 1000").fetch_all(&self.pool).await?;
        rows.iter().map(object_key).collect()
    }

    /// Notes that such an object is gone.
    pub(super) async fn forget_superseded(&self, key: &ObjectKey) -> Result<()> {
        let forgotten = sqlx::query("delete from superseded where object_key = ?").bind(key.as_str());
        forgotten.execute(&self.pool).await?;
        Ok(())
    }

    /// Whether this upload of the storage is needed: by a session, or as a blob that waits or is in quarantine.
    pub(super) async fn knows(&self, upload: &StorageUpload) -> Result<bool> {
        let known = sqlx::query_scalar::<_, i64>(
            "select exists (select 1 from uploads where storage_upload = ?1)
             or exists (select 1 from pending where storage_upload = ?1)
             or exists (select 1 from quarantine where storage_upload = ?1 and removed is null)",
        );
        Ok(known.bind(&upload.0).fetch_one(&self.pool).await? == 1)
    }

    /// Where a blob is, and its size. To ask is to use it: it is not removed as unused for a while.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Option<(ObjectKey, u64)>> {
        let row = sqlx::query("select object_key, size, unused_since from blobs where digest = ?");
        let Some(row) = row.bind(digest.to_string()).fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let unused: Option<i64> = row.try_get("unused_since")?;
        if unused.is_some() && !self.renew(digest).await? {
            return Ok(None);
        }
        Ok(Some((object_key(&row)?, size(&row, "size")?)))
    }
}
