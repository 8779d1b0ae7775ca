//! Which repository has which blob, and the end of blobs that none has any more.

use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::syntax::Did;
use sqlx::{Row as _, Sqlite, Transaction};

use super::ledger::Ledger;
use super::{Trust, UNUSED, UploadError, Uploads};
use crate::database;
use crate::storage::ObjectKey;

/// Blobs that nobody has: all repositories that had them deleted them, and no layer record names them. Those of which
/// it was never known whose they are stay.
const UNCLAIMED: &str = "
    digest in (select digest from claims)
    and not exists (select 1 from claims where claims.digest = blobs.digest and removed is null)
    and not exists (select 1 from layers where layers.digest = blobs.digest)
";

/// Notes that a repository has a blob.
pub(super) async fn claim(
    tx: &mut Transaction<'static, Sqlite>,
    digest: &Digest,
    owner: &Did,
    repository: Option<&RepositoryName>,
) -> Result<(), sqlx::Error> {
    let claim = sqlx::query(
        "insert into claims (digest, owner, repository) values (?, ?, ?)
         on conflict (digest, owner, repository) do update set removed = null",
    );
    let claim = claim.bind(digest.to_string()).bind(owner.as_str());
    claim.bind(repository.map_or("", RepositoryName::as_str)).execute(&mut **tx).await?;
    Ok(())
}

impl Ledger {
    /// Notes that a blob is used. False when it has been removed meanwhile.
    pub(super) async fn renew(&self, digest: &Digest) -> Result<bool, sqlx::Error> {
        let renewed = sqlx::query("update blobs set unused_since = null where digest = ?");
        Ok(renewed.bind(digest.to_string()).execute(&self.pool).await?.rows_affected() == 1)
    }
}

impl Uploads {
    /// Notes that a repository has these blobs.
    pub(crate) async fn claim(
        &self,
        digests: &[Digest],
        owner: &Did,
        repository: &RepositoryName,
    ) -> Result<(), UploadError> {
        let mut tx = database::write(&self.ledger.pool).await?;
        for digest in digests {
            claim(&mut tx, digest, owner, Some(repository)).await?;
        }
        tx.commit().await?;
        for digest in digests {
            self.places.forget(digest);
        }
        Ok(())
    }

    /// Whether the blob was deleted from the repository, and has not come back since.
    pub(crate) async fn withdrawn(
        &self,
        digest: &Digest,
        owner: &Did,
        repository: &RepositoryName,
    ) -> Result<bool, UploadError> {
        let now = self.clock.unix();
        if let Some(known) = self.places.withdrawn(digest, owner, repository, now) {
            return Ok(known);
        }
        let look = self.places.look(now);
        let withdrawn = sqlx::query_scalar::<_, i64>(
            "select 1 from claims where digest = ? and owner = ? and repository = ? and removed is not null",
        );
        let withdrawn = withdrawn.bind(digest.to_string()).bind(owner.as_str()).bind(repository.as_str());
        let withdrawn = withdrawn.fetch_optional(&self.ledger.pool).await?.is_some();
        self.places.asked(look, digest, owner, repository, withdrawn);
        Ok(withdrawn)
    }

    /// Deletes a blob from a repository. False when it is not there.
    pub(crate) async fn withdraw(
        &self,
        digest: &Digest,
        owner: &Did,
        repository: &RepositoryName,
    ) -> Result<bool, UploadError> {
        match self.find_for(digest, Some(owner), Trust::Storage).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(UploadError::Quarantined { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let withdrawn = sqlx::query(
            "insert into claims (digest, owner, repository, removed) values (?, ?, ?, ?)
             on conflict (digest, owner, repository) do update set removed = excluded.removed
             where removed is null",
        );
        let withdrawn = withdrawn.bind(digest.to_string()).bind(owner.as_str()).bind(repository.as_str());
        let withdrawn = withdrawn.bind(self.clock.unix()).execute(&self.ledger.pool).await?;
        self.places.forget(digest);
        Ok(withdrawn.rows_affected() == 1)
    }

    /// Removes blobs that nobody had at the last sweeps either, and that nobody asked for since. Gives their number.
    ///
    /// The index of the layer records must be up to date.
    pub(super) async fn sweep_blobs(&self) -> Result<u64, UploadError> {
        let now = self.clock.unix();
        let pool = &self.ledger.pool;
        let found = format!("update blobs set unused_since = ? where unused_since is null and {UNCLAIMED}");
        sqlx::query(sqlx::AssertSqlSafe(found)).bind(now).execute(pool).await?;
        let unused = sqlx::query_scalar::<_, String>("select digest from blobs where unused_since <= ?");
        let unused = unused.bind(now.saturating_sub(UNUSED)).fetch_all(pool).await?;
        let remove = format!(
            "delete from blobs where digest = ? and unused_since is not null and {UNCLAIMED} returning object_key"
        );
        let mut removed = 0;
        for digest in unused {
            // The bytes go while the write lock is held: whoever finds the blob at this moment waits to renew it, and
            // then finds it gone. If the bytes cannot be removed, neither is the row.
            let mut tx = database::write(pool).await?;
            let row = sqlx::query(sqlx::AssertSqlSafe(remove.as_str())).bind(&digest);
            let Some(row) = row.fetch_optional(&mut *tx).await? else { continue };
            let key = ObjectKey::try_from(row.try_get::<String, _>("object_key")?);
            let key = key.map_err(|error| UploadError::Internal(error.into()))?;
            self.storage.delete(&key).await?;
            tx.commit().await?;
            if let Ok(digest) = digest.parse() {
                self.places.forget(&digest);
            }
            tracing::info!(digest, "removed a blob that nobody has");
            removed += 1;
        }
        Ok(removed)
    }
}
