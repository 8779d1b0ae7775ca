use std::collections::HashMap;

use async_trait::async_trait;
use atcr_core::syntax::Did;
use ipld_core::cid::Cid;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::Mutex;

use super::{read, row};
use crate::store::{RepoInfo, Snapshot, StoreError, StoredBlock, StoredRecord};

/// A read transaction: the write-ahead log keeps what it sees.
struct Held {
    info: RepoInfo,
    tx: Mutex<Transaction<'static, Sqlite>>,
}

pub(super) async fn open(pool: &SqlitePool, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError> {
    let mut tx = pool.begin().await?;
    let Some(info) = read::repo(&mut tx, did).await? else { return Ok(None) };
    Ok(Some(Box::new(Held { info, tx: Mutex::new(tx) })))
}

#[async_trait]
impl Snapshot for Held {
    fn info(&self) -> &RepoInfo {
        &self.info
    }

    async fn blocks(&self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        read::blocks(&mut *self.tx.lock().await, self.info.id, cids).await
    }

    async fn records(&self, paths: &[&str]) -> Result<Vec<StoredRecord>, StoreError> {
        read::records_at(&mut *self.tx.lock().await, self.info.id, paths).await
    }
}

/// A copy of the repo, for a database in memory: that has one connection, which a transaction would keep from everybody.
struct Copied {
    info: RepoInfo,
    blocks: HashMap<Cid, StoredBlock>,
    records: HashMap<String, StoredRecord>,
}

pub(super) async fn copy(pool: &SqlitePool, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError> {
    let mut tx = pool.begin().await?;
    let Some(info) = read::repo(&mut tx, did).await? else { return Ok(None) };
    let cids: Vec<Vec<u8>> = sqlx::query_scalar("SELECT cid FROM blocks WHERE repo = ?")
        .bind(info.id.0)
        .fetch_all(&mut *tx)
        .await?;
    let cids = cids.iter().map(|cid| row::cid(cid)).collect::<Result<Vec<Cid>, _>>()?;
    let blocks = read::blocks(&mut tx, info.id, &cids).await?;
    let paths: Vec<String> = sqlx::query_scalar("SELECT path FROM records WHERE repo = ?")
        .bind(info.id.0)
        .fetch_all(&mut *tx)
        .await?;
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let records = read::records_at(&mut tx, info.id, &paths).await?;
    Ok(Some(Box::new(Copied {
        info,
        blocks: blocks.into_iter().map(|b| (b.cid, b)).collect(),
        records: records.into_iter().map(|r| (r.path.to_string(), r)).collect(),
    })))
}

#[async_trait]
impl Snapshot for Copied {
    fn info(&self) -> &RepoInfo {
        &self.info
    }

    async fn blocks(&self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        Ok(cids.iter().filter_map(|cid| self.blocks.get(cid)).cloned().collect())
    }

    async fn records(&self, paths: &[&str]) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(paths.iter().filter_map(|path| self.records.get(*path)).cloned().collect())
    }
}
