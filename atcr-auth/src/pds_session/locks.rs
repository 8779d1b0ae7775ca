use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// One lock for each key in use. A lock may be forgotten when very many are in use, so what it guards is looked at
/// again once it is held.
#[derive(Debug, Clone)]
pub(super) struct Locks<K: Hash + Eq + Send + Sync + 'static>(Cache<K, Arc<Mutex<()>>>);

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Locks<K> {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(10_000).time_to_idle(Duration::from_secs(600)).build())
    }

    pub(super) async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = self.0.get_with_by_ref(key, async { Arc::default() }).await;
        lock.lock_owned().await
    }
}
