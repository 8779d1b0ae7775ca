use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::{DidDocument, DidResolver, HandleResolver, ResolveError};
use crate::syntax::{Did, Handle};

/// Documents and handles that were put in by hand: for tests and examples.
#[derive(Debug, Default)]
pub struct StaticResolver {
    documents: RwLock<HashMap<Did, Arc<DidDocument>>>,
}

impl StaticResolver {
    /// A resolver that knows these documents, each under its own id and its claimed handle.
    pub fn new(documents: impl IntoIterator<Item = DidDocument>) -> Self {
        let resolver = Self::default();
        documents.into_iter().for_each(|document| resolver.insert(document));
        resolver
    }

    /// Adds or replaces a document.
    pub fn insert(&self, document: DidDocument) {
        let mut documents = self.documents.write().unwrap_or_else(PoisonError::into_inner);
        documents.insert(document.id.clone(), Arc::new(document));
    }
}

#[async_trait]
impl DidResolver for StaticResolver {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let documents = self.documents.read().unwrap_or_else(PoisonError::into_inner);
        documents.get(did).cloned().ok_or_else(|| ResolveError::NotFound(did.to_string()))
    }
}

#[async_trait]
impl HandleResolver for StaticResolver {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        let documents = self.documents.read().unwrap_or_else(PoisonError::into_inner);
        let found = documents.values().find(|doc| doc.claimed_handle().as_ref() == Some(handle));
        found.map(|doc| doc.id.clone()).ok_or_else(|| ResolveError::NotFound(handle.to_string()))
    }
}
