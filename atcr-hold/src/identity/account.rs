use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use atcr_core::syntax::{Did, DidMethod, Handle};
use atcr_pds::blobs::DEFAULT_BLOB_LIMIT;
use atcr_pds::xrpc::{Host, HostIdentity, ServerContact, ServerDescription, ServerLinks, XrpcError};
use serde_json::Value;
use url::Url;

use super::Address;

/// The hold as an account of its own PDS. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct HoldIdentity {
    did: Did,
    address: Address,
    /// As it is in effect. That of a did:plc may become known later than the hold starts.
    document: Arc<RwLock<Value>>,
}

impl HoldIdentity {
    pub(crate) fn new(did: Did, address: Address, document: Value) -> Self {
        Self { did, address, document: Arc::new(RwLock::new(document)) }
    }

    pub(crate) fn did(&self) -> &Did {
        &self.did
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.address.handle()
    }

    pub(crate) fn public_url(&self) -> &Url {
        self.address.url()
    }

    pub(crate) fn document(&self) -> Value {
        self.document.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_document(&self, document: Value) {
        *self.document.write().unwrap_or_else(PoisonError::into_inner) = document;
    }
}

#[async_trait]
impl Host for HoldIdentity {
    fn describe(&self) -> ServerDescription {
        ServerDescription {
            did: self.did.clone(),
            available_user_domains: Vec::new(),
            invite_code_required: true,
            blob_upload_limit: DEFAULT_BLOB_LIMIT,
            links: ServerLinks::default(),
            contact: ServerContact::default(),
        }
    }

    async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, XrpcError> {
        Ok((self.handle() == Some(handle)).then(|| self.did.clone()))
    }

    async fn identity(&self, _: &Did) -> Result<HostIdentity, XrpcError> {
        let document = self.document();
        let handle = self.handle().cloned();
        // The hold answers for its handle; the document of a did:plc may not say so (yet).
        let claimed = handle.as_ref().map(|handle| Value::String(format!("at://{handle}")));
        let claims = document["alsoKnownAs"].as_array();
        let handle_is_correct = claims.is_some_and(|names| claimed.is_some_and(|name| names.contains(&name)));
        Ok(HostIdentity { handle: handle.unwrap_or_else(Handle::invalid), document, handle_is_correct })
    }

    async fn own_document(&self) -> Option<Value> {
        (self.did.method() == DidMethod::Web).then(|| self.document())
    }
}
