use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use super::{DidDocument, DidResolver, ResolveError};
use crate::egress::{Egress, EgressError};
use crate::syntax::Did;

/// Documents are a few hundred bytes; this is generous.
pub(super) const MAX_DOCUMENT: usize = 256 * 1024;

/// Resolves did:plc at a PLC directory (did:plc specification, `GET /:did`).
#[derive(Debug, Clone)]
pub struct PlcResolver {
    egress: Egress,
    directory: Url,
}

impl PlcResolver {
    /// Asks this directory; `https://plc.directory` in production.
    pub fn new(egress: Egress, directory: Url) -> Self {
        Self { egress, directory }
    }
}

#[async_trait]
impl DidResolver for PlcResolver {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let mut url = self.directory.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(did.as_str());
        }
        fetch_document(&self.egress, did, url).await
    }
}

/// Fetches a document and checks that it is the one of `did`.
pub(super) async fn fetch_document(
    egress: &Egress,
    did: &Did,
    url: Url,
) -> Result<Arc<DidDocument>, ResolveError> {
    let bytes = match egress.get(url, MAX_DOCUMENT).await {
        Ok(bytes) => bytes,
        Err(EgressError::Status { status, .. }) if matches!(status.as_u16(), 404 | 410) => {
            return Err(ResolveError::NotFound(did.to_string()));
        }
        Err(error @ EgressError::Forbidden { .. }) => return Err(ResolveError::invalid(did, error)),
        Err(error) => return Err(ResolveError::unavailable(did, error)),
    };
    let document: DidDocument = serde_json::from_slice(&bytes).map_err(|e| ResolveError::invalid(did, e))?;
    if &document.id != did {
        return Err(ResolveError::invalid(did, format!("its document is the one of {}", document.id)));
    }
    Ok(Arc::new(document))
}
