use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use url::Url;

use super::{DidDocument, DidResolver, HandleResolver, ResolveError};
use crate::syntax::{AtIdentifier, Did, Handle};

/// An account as the network knows it now.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its DID.
    pub did: Did,
    /// Its handle; [`Handle::invalid`] when the handle it claims does not point back to it.
    pub handle: Handle,
    /// Its PDS.
    pub pds: Url,
    /// Its document.
    pub document: Arc<DidDocument>,
}

/// Resolves whatever names an account, and trusts a handle only when handle and document agree both ways.
#[derive(Debug, Clone)]
pub struct IdentityResolver {
    dids: Arc<dyn DidResolver>,
    handles: Arc<dyn HandleResolver>,
    known_handles: Cache<Handle, Did>,
}

impl IdentityResolver {
    /// Joins a resolver of DIDs, which should cache, with one of handles, which is cached here for five minutes.
    pub fn new(dids: Arc<dyn DidResolver>, handles: Arc<dyn HandleResolver>) -> Self {
        let known_handles =
            Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build();
        Self { dids, handles, known_handles }
    }

    /// The resolver of DIDs.
    pub fn dids(&self) -> &Arc<dyn DidResolver> {
        &self.dids
    }

    /// The account behind a DID or a handle.
    ///
    /// A handle must resolve to a DID whose document claims it, or it is refused. For a DID the handle is looked up
    /// as an extra: failing that never fails the call.
    pub async fn resolve(&self, name: &AtIdentifier) -> Result<Identity, ResolveError> {
        match name {
            AtIdentifier::Handle(handle) => {
                let did = self.did_of(handle).await?;
                let document = self.dids.resolve(&did).await?;
                if document.claimed_handle().as_ref() != Some(handle) {
                    self.known_handles.invalidate(handle).await;
                    return Err(ResolveError::invalid(
                        handle,
                        format!("it points at {did}, whose document does not name it"),
                    ));
                }
                Self::identity(did, handle.clone(), document)
            }
            AtIdentifier::Did(did) => {
                let document = self.dids.resolve(did).await?;
                let handle = match document.claimed_handle() {
                    Some(handle) if self.did_of(&handle).await.is_ok_and(|back| &back == did) => handle,
                    _ => Handle::invalid(),
                };
                Self::identity(did.clone(), handle, document)
            }
        }
    }

    /// The DID behind a DID or a handle, without asking for more than that takes.
    pub async fn resolve_did(&self, name: &AtIdentifier) -> Result<Did, ResolveError> {
        match name {
            AtIdentifier::Did(did) => Ok(did.clone()),
            AtIdentifier::Handle(_) => Ok(self.resolve(name).await?.did),
        }
    }

    /// The PDS of an account.
    pub async fn pds(&self, did: &Did) -> Result<Url, ResolveError> {
        self.dids.resolve(did).await?.pds().map_err(|e| ResolveError::invalid(did, e))
    }

    async fn did_of(&self, handle: &Handle) -> Result<Did, ResolveError> {
        let resolving = self.handles.resolve_handle(handle);
        self.known_handles.try_get_with_by_ref(handle, resolving).await.map_err(|e| (*e).clone())
    }

    fn identity(did: Did, handle: Handle, document: Arc<DidDocument>) -> Result<Identity, ResolveError> {
        let pds = document.pds().map_err(|e| ResolveError::invalid(&did, e))?;
        Ok(Identity { did, handle, pds, document })
    }
}

#[cfg(test)]
mod tests {
    use super::super::StaticResolver;
    use super::*;
    use crate::crypto::{Curve, SigningKey};
    use async_trait::async_trait;

    fn document(did: &str, handle: &str) -> DidDocument {
        let key = SigningKey::generate(Curve::K256).unwrap().public_key();
        let pds = "https://pds.example".parse().unwrap();
        let handle = handle.parse().unwrap();
        DidDocument::new(
            did.parse().unwrap(),
            Some(&handle),
            &key,
            &[("atproto_pds", "AtprotoPersonalDataServer", &pds)],
        )
    }

    /// Every handle points at one DID.
    #[derive(Debug)]
    struct Everybody(Did);

    #[async_trait]
    impl HandleResolver for Everybody {
        async fn resolve_handle(&self, _: &Handle) -> Result<Did, ResolveError> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn a_handle_counts_only_when_the_document_names_it_too() {
        let mallory: Did = "did:plc:mallory".parse().unwrap();
        let documents = Arc::new(StaticResolver::new([document(mallory.as_str(), "mallory.example")]));
        let resolver = IdentityResolver::new(documents, Arc::new(Everybody(mallory.clone())));
        assert!(resolver.resolve(&"alice.example".parse().unwrap()).await.is_err());
        assert_eq!(resolver.resolve(&"mallory.example".parse().unwrap()).await.unwrap().did, mallory);
    }

    #[tokio::test]
    async fn a_did_whose_claimed_handle_points_elsewhere_has_no_valid_handle() {
        let (alice, mallory) =
            (document("did:plc:alice", "alice.example"), document("did:plc:mallory", "alice.example"));
        let alice_did = alice.id.clone();
        let documents = Arc::new(StaticResolver::new([alice, mallory]));
        let resolver = IdentityResolver::new(documents, Arc::new(Everybody(alice_did)));
        let found = resolver.resolve(&"did:plc:mallory".parse().unwrap()).await.unwrap();
        assert_eq!(found.handle, Handle::invalid());
        let found = resolver.resolve(&"did:plc:alice".parse().unwrap()).await.unwrap();
        assert_eq!(found.handle.as_str(), "alice.example");
    }
}
