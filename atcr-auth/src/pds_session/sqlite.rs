use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::syntax::Did;
use sqlx::Row as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::{SealingKey, SessionStore, SessionStoreError, StoredSession};
use crate::browser::{BrowserStore, RowName};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS pds_session (
    did TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    leased_until INTEGER NOT NULL DEFAULT 0,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS browser (
    name BLOB PRIMARY KEY NOT NULL,
    did TEXT,
    expires INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS browser_expires ON browser (expires);
CREATE INDEX IF NOT EXISTS browser_did ON browser (did)";

/// Keeps sessions, browsers and devices in an SQLite file that several processes of one machine may share, encrypted under a key that is
/// not in it.
#[derive(Debug, Clone)]
pub struct SqliteSessionStore {
    readers: SqlitePool,
    writer: SqlitePool,
    key: SealingKey,
}

impl SqliteSessionStore {
    /// Opens the file, making it (readable by its owner only) when it does not exist.
    ///
    /// Sessions that do not open with `key` count as absent: their owners sign in again.
    pub async fn open(path: &Path, key: SealingKey) -> Result<Self, SessionStoreError> {
        let failed = |e: sqlx::Error| SessionStoreError::new("the file cannot be opened", e);
        atcr_core::files::open_private(path)
            .map_err(|e| SessionStoreError::new("the file cannot be made", e))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A redeemed refresh token that is lost with the power ends a session.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let writer = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        sqlx::raw_sql(SCHEMA).execute(&writer).await.map_err(failed)?;
        sqlx::raw_sql(crate::device_flow::SCHEMA).execute(&writer).await.map_err(failed)?;
        let readers = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(4)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self { readers, writer, key })
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(crate) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    fn seal(&self, session: &StoredSession) -> Result<Vec<u8>, SessionStoreError> {
        let failed = "a session cannot be encrypted";
        let json = serde_json::to_vec(session).map_err(|e| SessionStoreError::new(failed, e))?;
        self.key.seal(session.did.as_str(), &json).map_err(|e| SessionStoreError::new(failed, e))
    }

    /// The value of a browser's row; nothing when it was sealed under another key.
    fn open_row(&self, name: RowName, sealed: &[u8]) -> Option<Vec<u8>> {
        self.key.open(&row_owner(name), sealed).ok()
    }
}

/// A version that no session had before, so that one that was dropped and made anew is not mistaken for itself.
fn new_version() -> Result<i64, SessionStoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| SessionStoreError::new("there are no random numbers", e))?;
    Ok(i64::from_be_bytes(bytes))
}

/// What a row is sealed for: a row that somebody moves to another name does not open there.
fn row_owner(name: RowName) -> String {
    format!("browser {}", crate::jwt::encode_bytes(&name.0))
}

fn read(error: sqlx::Error) -> SessionStoreError {
    SessionStoreError::new("reading failed", error)
}

fn write(error: sqlx::Error) -> SessionStoreError {
    SessionStoreError::new("writing failed", error)
}

#[async_trait]
impl SessionStore for SqliteSessionStore {
    async fn get(&self, did: &Did) -> Result<Option<(StoredSession, i64)>, SessionStoreError> {
        let row = sqlx::query("SELECT version, sealed FROM pds_session WHERE did = ?")
            .bind(did.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(read)?;
        let Some(row) = row else { return Ok(None) };
        let version: i64 = row.try_get(0).map_err(read)?;
        let sealed: &[u8] = row.try_get(1).map_err(read)?;
        let json = self.key.open(did.as_str(), sealed).ok();
        let session = json.and_then(|json| serde_json::from_slice(&json).ok());
        if session.is_none() {
            tracing::warn!(%did, "a stored session does not open with the configured key; its owner must sign in again");
        }
        Ok(session.map(|session| (session, version)))
    }

    async fn put(&self, session: &StoredSession) -> Result<(), SessionStoreError> {
        sqlx::query(
            "INSERT INTO pds_session (did, version, sealed) VALUES (?, ?, ?)
             ON CONFLICT (did) DO UPDATE SET version = excluded.version, leased_until = 0, sealed = excluded.sealed",
        )
        .bind(session.did.as_str())
        .bind(new_version()?)
        .bind(self.seal(session)?)
        .execute(&self.writer)
        .await
        .map_err(write)?;
        Ok(())
    }

    async fn lease(&self, did: &Did, version: i64, now: i64, until: i64) -> Result<bool, SessionStoreError> {
        let done = sqlx::query(
            "UPDATE pds_session SET leased_until = ? WHERE did = ? AND version = ? AND leased_until <= ?",
        )
        .bind(until)
        .bind(did.as_str())
        .bind(version)
        .bind(now)
        .execute(&self.writer)
        .await
        .map_err(write)?;
        Ok(done.rows_affected() == 1)
    }

    async fn release(&self, did: &Did, version: i64) -> Result<(), SessionStoreError> {
        sqlx::query("UPDATE pds_session SET leased_until = 0 WHERE did = ? AND version = ?")
            .bind(did.as_str())
            .bind(version)
            .execute(&self.writer)
            .await
            .map_err(write)?;
        Ok(())
    }

    async fn replace(&self, session: &StoredSession, version: i64) -> Result<bool, SessionStoreError> {
        let done = sqlx::query(
            "UPDATE pds_session SET version = ?, leased_until = 0, sealed = ? WHERE did = ? AND version = ?",
        )
        .bind(new_version()?)
        .bind(self.seal(session)?)
        .bind(session.did.as_str())
        .bind(version)
        .execute(&self.writer)
        .await
        .map_err(write)?;
        Ok(done.rows_affected() == 1)
    }

    async fn remove(&self, did: &Did, version: i64) -> Result<(), SessionStoreError> {
        sqlx::query("DELETE FROM pds_session WHERE did = ? AND version = ?")
            .bind(did.as_str())
            .bind(version)
            .execute(&self.writer)
            .await
            .map_err(write)?;
        Ok(())
    }
}

#[async_trait]
impl BrowserStore for SqliteSessionStore {
    async fn keep(
        &self,
        name: RowName,
        account: Option<&Did>,
        value: &[u8],
        now: i64,
        expires: i64,
    ) -> Result<(), SessionStoreError> {
        let sealed = self.key.seal(&row_owner(name), value);
        let sealed = sealed.map_err(|e| SessionStoreError::new("a browser's row cannot be encrypted", e))?;
        sqlx::query("DELETE FROM browser WHERE expires <= ?")
            .bind(now)
            .execute(&self.writer)
            .await
            .map_err(write)?;
        sqlx::query("INSERT OR REPLACE INTO browser (name, did, expires, sealed) VALUES (?, ?, ?, ?)")
            .bind(&name.0[..])
            .bind(account.map(Did::as_str))
            .bind(expires)
            .bind(sealed)
            .execute(&self.writer)
            .await
            .map_err(write)?;
        Ok(())
    }

    async fn look(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError> {
        let row = sqlx::query("SELECT sealed FROM browser WHERE name = ? AND expires > ?")
            .bind(&name.0[..])
            .bind(now)
            .fetch_optional(&self.readers)
            .await
            .map_err(read)?;
        let Some(row) = row else { return Ok(None) };
        Ok(self.open_row(name, row.try_get(0).map_err(read)?))
    }

    async fn take(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError> {
        let row = sqlx::query("DELETE FROM browser WHERE name = ? AND expires > ? RETURNING sealed")
            .bind(&name.0[..])
            .bind(now)
            .fetch_optional(&self.writer)
            .await
            .map_err(write)?;
        let Some(row) = row else { return Ok(None) };
        Ok(self.open_row(name, row.try_get(0).map_err(read)?))
    }

    async fn drop_all(&self, account: &Did) -> Result<(), SessionStoreError> {
        sqlx::query("DELETE FROM browser WHERE did = ?")
            .bind(account.as_str())
            .execute(&self.writer)
            .await
            .map_err(write)?;
        Ok(())
    }
}
