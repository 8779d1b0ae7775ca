//! How much somebody stores, and whether there is room for more.
//!
//! A user stores each blob once, however many of their manifests name it: what their layer records name, what they
//! uploaded, and what waits to be verified. Parts of uploads that go on take room too.

use atcr_core::methods::UploadId;
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use sqlx::{Row as _, Sqlite, Transaction};

use super::ledger::{Ledger, Session, decode, integer};
use super::{UploadError, Uploads};
use crate::storage::PartNumber;

/// How much a user stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
}

/// What a user (?1) stores, a row for each blob.
const STORED: &str = "
    select max(size) as size from (
        select digest as what, size from layers where user_did = ?1
        union all
        select digest, blobs.size from claims join blobs using (digest) where owner = ?1 and removed is null
        union all
        select upload, size from pending where uploader = ?1
        union all
        select digest, size from uploads where uploader = ?1 and state = 'verified'
        union all
        select 'quarantine ' || id, size from quarantine where uploader = ?1 and removed is null
    ) group by what";

/// The bytes of the uploads of a user (?1) that go on, without some parts (?3 to ?4) of one of them (?2).
const ON_THE_WAY: &str = "
    select coalesce(sum(size), 0) from (
        select max(sent.size) as size from (
            select upload, number, size from parts
            union all
            select upload, number, size from promised
        ) as sent join uploads on uploads.id = sent.upload
        where uploader = ?1 and state not in ('completed', 'verified') and (upload <> ?2 or number < ?3 or number > ?4)
        group by upload, number
    )";

/// Whether a user (?1) stores a blob (?2), and its size.
const OWNED: &str = "
    select max(size) from (
        select size from layers where user_did = ?1 and digest = ?2
        union all
        select blobs.size from claims join blobs using (digest)
        where owner = ?1 and digest = ?2 and removed is null
        union all
        select size from pending where uploader = ?1 and digest = ?2
    )";

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Refuses a blob that its uploader has no room for, in the transaction that gives it to them.
pub(super) async fn check(
    tx: &mut Transaction<'static, Sqlite>,
    session: &Session,
    digest: &Digest,
    size: u64,
) -> Result<(), UploadError> {
    let Some(allowed) = session.allowed else { return Ok(()) };
    let user = session.uploader.as_str();
    let owned = sqlx::query_scalar::<_, Option<i64>>(OWNED).bind(user).bind(digest.to_string());
    if owned.fetch_one(&mut **tx).await?.is_some() {
        return Ok(());
    }
    let stored = sqlx::AssertSqlSafe(format!("select coalesce(sum(size), 0) from ({STORED})"));
    let stored = sqlx::query_scalar::<_, i64>(stored).bind(user).fetch_one(&mut **tx).await?;
    fits(unsigned(stored), size, allowed)
}

fn fits(used: u64, more: u64, allowed: u64) -> Result<(), UploadError> {
    if used.saturating_add(more) <= allowed {
        return Ok(());
    }
    Err(UploadError::QuotaExceeded { used, more, allowed })
}

impl Ledger {
    async fn stored(&self, user: &Did) -> Result<Usage, sqlx::Error> {
        let sum = format!("select count(*) as blobs, coalesce(sum(size), 0) as bytes from ({STORED})");
        let row = sqlx::query(sqlx::AssertSqlSafe(sum)).bind(user.as_str()).fetch_one(&self.pool).await?;
        let number = |column| row.try_get::<i64, _>(column).map(unsigned);
        Ok(Usage { blobs: number("blobs")?, bytes: number("bytes")? })
    }

    async fn on_the_way(
        &self,
        user: &Did,
        but_for: Option<(&UploadId, PartNumber, PartNumber)>,
    ) -> Result<u64, sqlx::Error> {
        let (upload, first, last) =
            but_for.map_or(("", 0, 0), |(upload, first, last)| (upload.as_str(), first.get(), last.get()));
        let sum = sqlx::query_scalar::<_, i64>(ON_THE_WAY).bind(user.as_str()).bind(upload);
        let sum = sum.bind(first).bind(last);
        Ok(unsigned(sum.fetch_one(&self.pool).await?))
    }

    async fn owned(&self, user: &Did, digest: &Digest) -> Result<Option<u64>, sqlx::Error> {
        let size = sqlx::query_scalar::<_, Option<i64>>(OWNED).bind(user.as_str()).bind(digest.to_string());
        Ok(size.fetch_one(&self.pool).await?.map(unsigned))
    }

    /// The bytes of all parts of an upload but this one.
    pub(super) async fn size_without(&self, id: &UploadId, number: PartNumber) -> Result<u64, sqlx::Error> {
        let sum = sqlx::query_scalar::<_, i64>(
            "select coalesce(sum(size), 0) from parts where upload = ? and number <> ?",
        );
        let sum = sum.bind(id.as_str()).bind(number.get()).fetch_one(&self.pool).await?;
        u64::try_from(sum).map_err(decode)
    }

    /// Sets what an uploader may store, where that has changed since the upload began.
    pub(super) async fn allow(&self, id: &UploadId, allowed: Option<u64>) -> Result<(), sqlx::Error> {
        let set = sqlx::query("update uploads set allowed = ? where id = ?");
        set.bind(allowed.map(integer)).bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }
}

impl Uploads {
    /// What a user stores.
    pub(crate) async fn usage_of(&self, user: &Did) -> Result<Usage, UploadError> {
        Ok(self.ledger.stored(user).await?)
    }

    /// Refuses an upload for which there is no room, and gives what its session may come to: more where the blob is
    /// one that the user has.
    pub(super) async fn check_quota_at_start(
        &self,
        user: &Did,
        digest: Option<&Digest>,
        size: Option<u64>,
        allowed: Option<u64>,
    ) -> Result<Option<u64>, UploadError> {
        let Some(allowed) = allowed else { return Ok(None) };
        let owned = match digest {
            Some(digest) => self.ledger.owned(user, digest).await?,
            None => None,
        };
        let limit = allowed.saturating_add(owned.unwrap_or_default());
        let used = self.ledger.stored(user).await?.bytes + self.ledger.on_the_way(user, None).await?;
        // Of an unknown size, it has a byte at least; only the empty blob has none.
        fits(used, size.unwrap_or(1), limit)?;
        Ok(Some(limit))
    }

    /// How many bytes the uploader stores without these parts of the session, and how many they may. `None`: there is
    /// no limit.
    pub(super) async fn quota_left(
        &self,
        session: &Session,
        first: PartNumber,
        last: PartNumber,
    ) -> Result<Option<(u64, u64)>, UploadError> {
        let Some(allowed) = session.allowed else { return Ok(None) };
        let stored = self.ledger.stored(&session.uploader).await?.bytes;
        let but_for = Some((&session.id, first, last));
        let used = stored.saturating_add(self.ledger.on_the_way(&session.uploader, but_for).await?);
        Ok(Some((used, allowed)))
    }

    /// Refuses parts of known sizes for which there is no room.
    pub(super) async fn check_quota_of_parts(
        &self,
        session: &Session,
        parts: &[(PartNumber, Option<u64>)],
    ) -> Result<(), UploadError> {
        let (Some((first, _)), Some((last, _))) = (parts.first(), parts.last()) else { return Ok(()) };
        let more = parts.iter().filter_map(|(_, size)| *size).fold(0_u64, u64::saturating_add);
        match self.quota_left(session, *first, *last).await? {
            Some((used, allowed)) => fits(used, more, allowed),
            None => Ok(()),
        }
    }

    /// Refuses a blob that its uploader has no room for.
    pub(super) async fn check_quota(
        &self,
        session: &Session,
        digest: &Digest,
        size: u64,
    ) -> Result<(), UploadError> {
        let Some(allowed) = session.allowed else { return Ok(()) };
        if self.ledger.owned(&session.uploader, digest).await?.is_some() {
            return Ok(());
        }
        fits(self.ledger.stored(&session.uploader).await?.bytes, size, allowed)
    }

    /// Refuses a manifest that names more than its owner has room for. Blobs that they store already count nothing.
    pub(crate) async fn check_quota_of_manifest(
        &self,
        user: &Did,
        blobs: &[(Digest, u64)],
        allowed: Option<u64>,
    ) -> Result<(), UploadError> {
        let Some(allowed) = allowed else { return Ok(()) };
        let mut more = 0_u64;
        let mut seen = std::collections::BTreeSet::new();
        for (digest, size) in blobs {
            if seen.insert(*digest) && self.ledger.owned(user, digest).await?.is_none() {
                more = more.saturating_add(*size);
            }
        }
        if more == 0 {
            return Ok(());
        }
        fits(self.ledger.stored(user).await?.bytes, more, allowed)
    }
}
