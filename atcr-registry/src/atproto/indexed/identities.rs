//! Who is who, as the index knows it.

use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::did_resolver::{DidDocument, DidResolver, HandleResolver, IdentityResolver, ResolveError};
use atcr_core::syntax::{Did, Handle};
use moka::future::Cache;

use super::known::Known;
use crate::index::{Account, Event, IdentityChange, Index};
use crate::ingest::Ingest;

/// What is known of an identity is looked up anew after this long, in milliseconds, although no event said so.
const IDENTITY_AGE: i64 = 24 * 3600 * 1000;
/// The same where no stream would tell of a change.
const UNWATCHED_AGE: i64 = 300 * 1000;

/// The identities that the index knows, before those that must be asked for.
///
/// An identity is answered from the index for a day while a stream would tell of its change, for five minutes
/// otherwise, and longer only while it cannot be looked up.
pub fn indexed_identities(
    index: &Index,
    ingest: &Ingest,
    dids: Arc<dyn DidResolver>,
    handles: Arc<dyn HandleResolver>,
) -> IdentityResolver {
    let documents = Cache::builder().max_capacity(10_000).build();
    let known = Known::new(index.clone(), ingest.clone(), Arc::clone(&dids));
    let dids = IndexedDids { known: known.clone(), inner: dids, documents };
    IdentityResolver::new(Arc::new(dids), Arc::new(IndexedHandles { known, inner: handles }))
}

/// A document as it was read at a time.
type Dated = (i64, Arc<DidDocument>);

#[derive(Debug)]
struct IndexedDids {
    known: Known,
    inner: Arc<dyn DidResolver>,
    documents: Cache<Did, Dated>,
}

#[derive(Debug)]
struct IndexedHandles {
    known: Known,
    inner: Arc<dyn HandleResolver>,
}

impl Known {
    fn is_recent(&self, account: &Account) -> bool {
        let age = jiff::Timestamp::now().as_millisecond() - account.identity_at;
        age < if self.is_watched(account) { IDENTITY_AGE } else { UNWATCHED_AGE }
    }
}

impl IndexedDids {
    async fn known(&self, account: &Account) -> Option<Arc<DidDocument>> {
        if let Some((at, document)) = self.documents.get(&account.did).await
            && at == account.identity_at
        {
            return Some(document);
        }
        let document: DidDocument = serde_json::from_str(account.document.as_deref()?).ok()?;
        let document = Arc::new(document);
        self.documents.insert(account.did.clone(), (account.identity_at, Arc::clone(&document))).await;
        Some(document)
    }

    /// Keeps what was looked up of an account that the index knows.
    async fn keep(&self, account: &Account, document: &DidDocument) {
        // A handle that the document does not claim any more is not theirs; one that it claims newly must be looked
        // up, which the next reading of the repo or the next event does.
        let handle =
            account.handle.clone().filter(|handle| document.claimed_handle().as_ref() == Some(handle));
        let pds = document.pds().ok().map(|pds| pds.as_str().trim_end_matches('/').to_owned());
        let document = serde_json::to_string(document).ok();
        let change = IdentityChange { did: account.did.clone(), handle, pds, document };
        if let Err(error) = self.known.index.apply(&[Event::Identity(change)], None).await {
            tracing::debug!(%error, "the index does not take in an identity");
        }
    }
}

#[async_trait]
impl DidResolver for IndexedDids {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let Ok(Some(account)) = self.known.index.account(did).await else {
            return self.inner.resolve(did).await;
        };
        let Some(document) = self.known(&account).await else { return self.inner.resolve(did).await };
        if self.known.is_recent(&account) {
            return Ok(document);
        }
        match self.inner.resolve(did).await {
            Ok(fresh) => {
                self.keep(&account, &fresh).await;
                Ok(fresh)
            }
            Err(ResolveError::Unavailable { .. }) => Ok(document),
            Err(error) => Err(error),
        }
    }

    async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.inner.refresh(did).await
    }
}

#[async_trait]
impl HandleResolver for IndexedHandles {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        let Ok(Some(account)) = self.known.index.account_by_handle(handle).await else {
            return self.inner.resolve_handle(handle).await;
        };
        if self.known.is_recent(&account) {
            return Ok(account.did.clone());
        }
        match self.inner.resolve_handle(handle).await {
            Err(ResolveError::Unavailable { .. }) => Ok(account.did.clone()),
            other => other,
        }
    }
}
