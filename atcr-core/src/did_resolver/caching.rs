use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;

use super::{DidDocument, DidResolver, ResolveError};
use crate::syntax::Did;

/// How much a [`CachingResolver`] keeps, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// At most this many documents.
    pub entries: u64,
    /// A document is asked for anew after this long.
    pub time_to_live: Duration,
}

impl Default for CacheLimits {
    /// 10,000 documents, five minutes.
    fn default() -> Self {
        Self { entries: 10_000, time_to_live: Duration::from_secs(300) }
    }
}

/// Remembers another resolver's documents. Failures are not remembered; concurrent requests for one DID become one.
#[derive(Debug, Clone)]
pub struct CachingResolver<R> {
    inner: Arc<R>,
    documents: Cache<Did, Arc<DidDocument>>,
}

impl<R: DidResolver> CachingResolver<R> {
    /// A cache in front of `inner`.
    pub fn new(inner: R, limits: CacheLimits) -> Self {
        let documents =
            Cache::builder().max_capacity(limits.entries).time_to_live(limits.time_to_live).build();
        Self { inner: Arc::new(inner), documents }
    }
}

#[async_trait]
impl<R: DidResolver> DidResolver for CachingResolver<R> {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.documents.try_get_with_by_ref(did, self.inner.resolve(did)).await.map_err(|e| (*e).clone())
    }

    async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let document = self.inner.refresh(did).await?;
        self.documents.insert(did.clone(), Arc::clone(&document)).await;
        Ok(document)
    }
}
