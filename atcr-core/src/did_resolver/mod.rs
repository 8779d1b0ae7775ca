//! From DIDs to documents, from handles to DIDs, and both together.

mod caching;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod document;
mod handle;
mod identity;
mod plc;
mod static_resolver;
mod web;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use caching::{CacheLimits, CachingResolver};
pub use document::{DidDocument, DocumentError, Service, VerificationMethod};
pub use handle::{
    DnsHandleResolver, HandleResolver, WellKnownHandleResolver, XrpcHandleResolver, did_of_records,
    did_of_well_known,
};
pub use identity::{Identity, IdentityResolver};
pub use plc::PlcResolver;
pub use static_resolver::StaticResolver;
pub use web::WebResolver;

use crate::error::Source;
use crate::syntax::{Did, DidMethod};

/// Finds the document of a DID.
///
/// Contract, checked by the suite in `contract`: a document is given only for the DID it names itself
/// (`doc.id == did`); a DID that does not exist is [`ResolveError::NotFound`], one that cannot be looked up is
/// [`ResolveError::Unavailable`], and the two are never confused.
#[async_trait]
pub trait DidResolver: Debug + Send + Sync + 'static {
    /// The document, perhaps from a cache.
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError>;

    /// The document as it is now, past every cache: for when a signature does not verify, because the key may have
    /// been rotated.
    async fn refresh(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.resolve(did).await
    }
}

/// Why an identity could not be resolved.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It does not exist, or no longer.
    #[error("{0} does not exist")]
    NotFound(String),
    /// No resolver here knows this method.
    #[error("{0} uses a DID method that is not resolved here; did:plc and did:web are")]
    UnsupportedMethod(Did),
    /// What was found is not a valid answer.
    #[error("the identity {subject} is broken: {reason}")]
    Invalid {
        /// The DID or handle.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// It cannot be looked up at the moment.
    #[error("{subject} cannot be looked up at the moment")]
    Unavailable {
        /// The DID or handle.
        subject: String,
        /// What happened.
        #[source]
        source: Arc<Source>,
    },
}

impl ResolveError {
    pub(crate) fn unavailable(subject: impl ToString, source: impl Into<Source>) -> Self {
        Self::Unavailable { subject: subject.to_string(), source: Arc::new(source.into()) }
    }

    pub(crate) fn invalid(subject: impl ToString, reason: impl ToString) -> Self {
        Self::Invalid { subject: subject.to_string(), reason: reason.to_string() }
    }
}

/// Resolves both methods of the network: did:plc at a directory, did:web at the host it names.
#[derive(Debug, Clone)]
pub struct NetworkResolver {
    plc: PlcResolver,
    web: WebResolver,
}

impl NetworkResolver {
    /// A resolver that asks these two.
    pub fn new(plc: PlcResolver, web: WebResolver) -> Self {
        Self { plc, web }
    }
}

#[async_trait]
impl DidResolver for NetworkResolver {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        match did.method() {
            DidMethod::Plc => self.plc.resolve(did).await,
            DidMethod::Web => self.web.resolve(did).await,
            DidMethod::Other => Err(ResolveError::UnsupportedMethod(did.clone())),
        }
    }
}
