use std::collections::HashMap;

use async_trait::async_trait;
use atcr_core::syntax::Did;
use ipld_core::cid::Cid;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::Mutex;

use super::read;
use crate::store::{RepoInfo, Snapshot, StoreError, StoredBlock};

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
}

/// A copy of the blocks, for a database that is in memory as well.
struct Copied {
    info: RepoInfo,
    blocks: HashMap<Cid, StoredBlock>,
}

pub(super) async fn copy(pool: &SqlitePool, did: &Did) -> Result<Option<Box<dyn Snapshot>>, StoreError> {
    let mut tx = pool.begin().await?;
    let Some(info) = read::repo(&mut tx, did).await? else { return Ok(None) };
    let blocks = read::all_blocks(&mut tx, info.id).await?;
    let blocks = blocks.into_iter().map(|b| (b.cid, b)).collect();
    Ok(Some(Box::new(Copied { info, blocks })))
}

#[async_trait]
impl Snapshot for Copied {
    fn info(&self) -> &RepoInfo {
        &self.info
    }

    async fn blocks(&self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        Ok(cids.iter().filter_map(|cid| self.blocks.get(cid)).cloned().collect())
    }
}
