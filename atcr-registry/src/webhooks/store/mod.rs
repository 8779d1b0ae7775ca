//! Hooks, what was told, and what is to be told.

mod deliveries;
mod told;

use std::path::Path;
use std::time::Duration;

use atcr_auth::pds_session::SealingKey;
use atcr_core::syntax::Did;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

pub(super) use self::deliveries::{Claimed, Outcome};
use self::deliveries::{DeliveryRow, delivery};
use super::WebhookError;
use super::hook::{Delivery, Hook, NewHook, Target, Triggers};

/// Times are milliseconds since 1970. Addresses and secrets are in `sealed` and nowhere else; `event` is public.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS hook (
    id TEXT PRIMARY KEY NOT NULL,
    did TEXT NOT NULL,
    triggers INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    since INTEGER NOT NULL,
    off_since INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    served_at INTEGER NOT NULL DEFAULT 0,
    scans_read_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS hook_did ON hook (did);
CREATE TABLE IF NOT EXISTS delivery (
    id TEXT PRIMARY KEY NOT NULL,
    hook TEXT NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,
    leased_until INTEGER NOT NULL DEFAULT 0,
    lease INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    answer TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_hook ON delivery (hook);
CREATE TABLE IF NOT EXISTS told_move (
    did TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, rev TEXT NOT NULL,
    digest TEXT, at INTEGER NOT NULL,
    PRIMARY KEY (did, repository, tag, rev)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_move_at ON told_move (did, at);
CREATE TABLE IF NOT EXISTS told_scan (
    did TEXT NOT NULL, hold TEXT NOT NULL, digest TEXT NOT NULL, scanned_at INTEGER NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (did, hold, digest)
) STRICT, WITHOUT ROWID";

/// Moves that were told of are remembered for so long: far longer than they are looked for.
const MEMORY: i64 = 24 * 3600 * 1000;
/// Manifests of an account whose last scan is remembered.
const SCANS: i64 = 10_000;

type Tx = Transaction<'static, Sqlite>;
type HookRow = (String, i64, Vec<u8>, i64, i64, Option<i64>);

/// What an account's hooks are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) pushes: bool,
    pub(super) scans: bool,
    /// When all scans of the account were last read; 1970 while that is still to be done for one of its hooks.
    pub(super) scans_read_at: Timestamp,
}

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
    key: SealingKey,
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn random<const N: usize>() -> Result<[u8; N], WebhookError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| WebhookError::store(error.to_string()))?;
    Ok(bytes)
}

/// What is encrypted for a hook does not open for another one.
fn owner(id: &str) -> String {
    format!("webhook {id}")
}

impl Store {
    pub(super) async fn open(path: &Path, key: SealingKey) -> Result<Self, WebhookError> {
        atcr_core::files::open_private(path).map_err(WebhookError::store)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool =
            |connections| SqlitePoolOptions::new().test_before_acquire(false).max_connections(connections);
        let writer = pool(1).connect_with(options.clone()).await?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await?;
        let readers = pool(4).connect_with(options.read_only(true)).await?;
        Ok(Self { readers, writer, key })
    }

    async fn begin(&self) -> Result<Tx, WebhookError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    fn target(&self, id: &str, sealed: &[u8]) -> Option<Target> {
        Target::from_bytes(&self.key.open(&owner(id), sealed).ok()?)
    }

    fn hook(&self, row: HookRow) -> Hook {
        let (id, triggers, sealed, created_at, since, off_since) = row;
        Hook {
            target: self.target(&id, &sealed),
            id,
            triggers: Triggers::from_bits(triggers),
            created_at: moment(created_at),
            since: moment(since),
            off_since: off_since.map(moment),
        }
    }

    pub(super) async fn add(
        &self,
        did: &Did,
        new: NewHook,
        now: Timestamp,
        most: usize,
    ) -> Result<Hook, WebhookError> {
        let id = HEXLOWER.encode(&random::<16>()?);
        let target = Target { url: new.url, secret: new.secret };
        let plain = target.to_bytes().map_err(WebhookError::store)?;
        let sealed = self.key.seal(&owner(&id), &plain).map_err(WebhookError::store)?;
        let done = sqlx::query(
            "INSERT INTO hook (id, did, triggers, sealed, created_at, since) SELECT ?1, ?2, ?3, ?4, ?5, ?5 \
             WHERE (SELECT count(*) FROM hook WHERE did = ?2) < ?6",
        )
        .bind(&id)
        .bind(did.as_str())
        .bind(new.triggers.bits())
        .bind(sealed)
        .bind(millis(now))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .execute(&self.writer)
        .await?;
        if done.rows_affected() == 0 {
            return Err(WebhookError::TooMany(most));
        }
        let (triggers, target) = (new.triggers, Some(target));
        Ok(Hook { id, triggers, target, created_at: now, since: now, off_since: None })
    }

    /// Removes a hook with its deliveries, and with the last one what an account was told.
    pub(super) async fn remove(&self, did: &Did, id: &str) -> Result<bool, WebhookError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("DELETE FROM hook WHERE id = ?1 AND did = ?2")
            .bind(id)
            .bind(did.as_str())
            .execute(&mut *tx)
            .await?;
        for sql in [
            "DELETE FROM told_move WHERE did = ?1 AND NOT EXISTS (SELECT 1 FROM hook WHERE hook.did = ?1)",
            "DELETE FROM told_scan WHERE did = ?1 AND NOT EXISTS (SELECT 1 FROM hook WHERE hook.did = ?1)",
        ] {
            sqlx::query(sql).bind(did.as_str()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(super) async fn hooks(&self, did: &Did) -> Result<Vec<Hook>, WebhookError> {
        let rows: Vec<HookRow> = sqlx::query_as(
            "SELECT id, triggers, sealed, created_at, since, off_since FROM hook WHERE did = ? ORDER BY created_at, id",
        )
        .bind(did.as_str())
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(|row| self.hook(row)).collect())
    }

    pub(super) async fn listed(&self, did: &Did) -> Result<Vec<(Hook, Option<Delivery>)>, WebhookError> {
        let mut listed = Vec::new();
        for hook in self.hooks(did).await? {
            let row: Option<DeliveryRow> = sqlx::query_as(
                "SELECT id, name, created_at, attempts, next_at, delivered, answer FROM delivery WHERE hook = ? \
                 ORDER BY rowid DESC LIMIT 1",
            )
            .bind(hook.id())
            .fetch_optional(&self.readers)
            .await?;
            listed.push((hook, row.map(delivery)));
        }
        Ok(listed)
    }

    /// The accounts that have hooks which are on.
    pub(super) async fn accounts(&self) -> Result<Vec<(Did, Interest)>, WebhookError> {
        let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "SELECT did, max(triggers & 8), max(triggers & 7), \
             min(iif(triggers & 7, scans_read_at, 9000000000000)) FROM hook WHERE off_since IS NULL GROUP BY did",
        )
        .fetch_all(&self.readers)
        .await?;
        let account = |(did, push, scan, read): (String, i64, i64, i64)| {
            let interest = Interest { pushes: push != 0, scans: scan != 0, scans_read_at: moment(read) };
            Ok((did.parse().map_err(WebhookError::store)?, interest))
        };
        rows.into_iter().map(account).collect()
    }

    /// All scans of an account have been read.
    pub(super) async fn scans_read(&self, did: &Did, now: Timestamp) -> Result<(), WebhookError> {
        sqlx::query("UPDATE hook SET scans_read_at = ? WHERE did = ?")
            .bind(millis(now))
            .bind(did.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Forgets what is looked for no more.
    pub(super) async fn tidy(&self, now: Timestamp) -> Result<(), WebhookError> {
        sqlx::query("DELETE FROM told_move WHERE at < ?")
            .bind(millis(now) - MEMORY)
            .execute(&self.writer)
            .await?;
        // A test of a hook that is off, and whose sender is gone.
        sqlx::query(
            "DELETE FROM delivery WHERE next_at < ? AND hook IN (SELECT id FROM hook WHERE off_since IS NOT NULL)",
        )
        .bind(millis(now) - MEMORY)
        .execute(&self.writer)
        .await?;
        sqlx::query(
            "DELETE FROM told_scan WHERE (did, hold, digest) IN (SELECT did, hold, digest FROM \
             (SELECT did, hold, digest, row_number() OVER (PARTITION BY did ORDER BY scanned_at DESC) AS place \
             FROM told_scan) WHERE place > ?)",
        )
        .bind(SCANS)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}
