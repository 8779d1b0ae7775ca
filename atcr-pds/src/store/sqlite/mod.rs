mod read;
mod row;
mod schema;
mod snapshot;
mod write;

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did, Nsid, Tid};
use ipld_core::cid::Cid;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{
    BlobRow, RecordRange, RepoId, RepoInfo, RepoStore, Snapshot, StoreError, StoreWrite, StoredBlock,
    StoredRecord,
};
use crate::cbor::BlobRef;
use crate::repo::{Event, RecordPath};

/// How many connections read at the same time.
const READERS: u32 = 4;
/// How many snapshots are open at the same time, those of exports and of proofs; more wait.
const SNAPSHOTS: u32 = 16;

/// Repos in one SQLite database: a write-ahead log, one connection that writes, several that read. What
/// [`StoreWrite::commit`](super::StoreWrite::commit) has written survives a loss of power (`synchronous = FULL`).
///
/// While a [`Snapshot`] is open the write-ahead log keeps growing. Several processes may use one database; they learn of
/// each other's events by [`Repos::notice`](crate::Repos::notice).
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// `None`: in memory, where a second connection would be a second database.
    snapshots: Option<SqlitePool>,
}

impl SqliteStore {
    /// Opens the database at `path`, making or upgrading it as needed. Its folder must exist.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] when a newer version of this program has written it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("wal_autocheckpoint", "10000")
            .pragma("temp_store", "memory");
        let writing = options.clone().create_if_missing(true).pragma("cache_size", "-32768");
        let writer = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(1)
            .connect_with(writing)
            .await?;
        schema::upgrade(&mut *writer.acquire().await?).await?;
        let reading = options.read_only(true).pragma("cache_size", "-8192");
        let readers = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(READERS)
            .connect_lazy_with(reading.clone());
        let snapshots = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(SNAPSHOTS)
            .connect_lazy_with(reading);
        Ok(Self { writer, readers, snapshots: Some(snapshots) })
    }

    /// A database in memory, gone with its last handle: for tests and examples. Snapshots are copies.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new()
            .test_before_acquire(false)
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(SqliteConnectOptions::new().in_memory(true))
            .await?;
        schema::upgrade(&mut *pool.acquire().await?).await?;
        Ok(Self { readers: pool.clone(), writer: pool, snapshots: None })
    }

    /// Closes all connections, and folds the write-ahead log into the database. Calls after it fail.
    pub async fn close(&self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[async_trait]
impl RepoStore for SqliteStore {
    async fn repo(&self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        read::repo(&mut *self.readers.acquire().await?, did).await
    }

    async fn repos(&self, after: Option<RepoId>, limit: usize) -> Result<Vec<RepoInfo>, StoreError> {
        read::repos(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn repos_with_collection(
        &self,
        collection: &Nsid,
        after: Option<RepoId>,
        limit: usize,
    ) -> Result<Vec<RepoInfo>, StoreError> {
        read::repos_with_collection(&mut *self.readers.acquire().await?, collection, after, limit).await
    }

    async fn blocks(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        read::all_blocks(&mut *self.readers.acquire().await?, repo, cids).await
    }

    async fn snapshot(&self, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError> {
        match &self.snapshots {
            Some(pool) => snapshot::open(pool, did).await,
            None => snapshot::copy(&self.readers, did).await,
        }
    }

    async fn record(&self, repo: RepoId, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
        read::record(&mut *self.readers.acquire().await?, repo, path).await
    }

    async fn records(&self, repo: RepoId, range: &RecordRange) -> Result<Vec<StoredRecord>, StoreError> {
        read::records(&mut *self.readers.acquire().await?, repo, range).await
    }

    async fn index(
        &self,
        repo: RepoId,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<(RecordPath, Cid)>, StoreError> {
        read::index(&mut *self.readers.acquire().await?, repo, after, limit).await
    }

    async fn collections(&self, repo: RepoId) -> Result<Vec<Nsid>, StoreError> {
        read::collections(&mut *self.readers.acquire().await?, repo).await
    }

    async fn put_blob(&self, repo: RepoId, blob: &BlobRef, at: &Datetime) -> Result<(), StoreError> {
        write::put_blob(&mut *self.writer.acquire().await?, repo, blob, at).await
    }

    async fn blobs(&self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        read::blobs(&mut *self.readers.acquire().await?, repo, cids).await
    }

    async fn list_blobs(
        &self,
        repo: RepoId,
        since: Option<Tid>,
        after: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, StoreError> {
        read::list_blobs(&mut *self.readers.acquire().await?, repo, since, after, limit).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        read::events(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn event_window(&self) -> Result<RangeInclusive<u64>, StoreError> {
        read::event_window(&mut *self.readers.acquire().await?).await
    }

    async fn prune_events(&self, before: &Datetime) -> Result<u64, StoreError> {
        write::prune_events(&mut *self.writer.acquire().await?, before).await
    }

    async fn begin(&self) -> Result<Box<dyn StoreWrite>, StoreError> {
        write::begin(&self.writer).await
    }
}
