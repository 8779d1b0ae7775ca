use async_trait::async_trait;
use atcr_core::syntax::{Datetime, Did};
use ipld_core::cid::Cid;

use crate::repo::source::Load;
use crate::store::{BlobRow, RepoId, RepoInfo, RepoStore, StoreError, StoreWrite, StoredBlock};

/// Where a batch reads.
pub(super) enum View<'w> {
    /// In the transaction that it will be written in.
    Transaction(Box<dyn StoreWrite>),
    /// In the store, while another batch is being written: the transaction comes later, and finds out whether the
    /// repos are where they were.
    Store(&'w dyn RepoStore),
}

impl View<'_> {
    pub(super) async fn repo(&mut self, did: &Did) -> Result<Option<RepoInfo>, StoreError> {
        match self {
            Self::Transaction(tx) => tx.repo(did).await,
            Self::Store(store) => store.repo(did).await,
        }
    }

    pub(super) async fn blocks(
        &mut self,
        repo: RepoId,
        cids: &[Cid],
    ) -> Result<Vec<StoredBlock>, StoreError> {
        match self {
            Self::Transaction(tx) => tx.blocks(repo, cids).await,
            Self::Store(store) => store.blocks(repo, cids).await,
        }
    }

    pub(super) async fn blobs(&mut self, repo: RepoId, cids: &[Cid]) -> Result<Vec<BlobRow>, StoreError> {
        match self {
            Self::Transaction(tx) => tx.blobs(repo, cids).await,
            Self::Store(store) => store.blobs(repo, cids).await,
        }
    }

    pub(super) async fn forget_blobs(
        &mut self,
        before: &Datetime,
        limit: usize,
    ) -> Result<Vec<(Did, Cid)>, StoreError> {
        match self {
            Self::Transaction(tx) => tx.forget_blobs(before, limit).await,
            Self::Store(_) => unreachable!("only writes of records are made ahead"),
        }
    }
}

/// The blocks of a repo as a batch sees them.
pub(super) struct InRepo<'a, 'w>(pub(super) &'a mut View<'w>, pub(super) RepoId);

#[async_trait]
impl Load for InRepo<'_, '_> {
    async fn load(&mut self, cids: &[Cid]) -> Result<Vec<StoredBlock>, StoreError> {
        self.0.blocks(self.1, cids).await
    }
}
