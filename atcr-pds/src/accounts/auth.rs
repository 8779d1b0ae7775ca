use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::syntax::{Did, Handle, Nsid};
use http::request::Parts;
use serde_json::Value;

use super::limits::{Counted, client, points};
use super::token::Scope;
use super::{AccountError, Pds};
use crate::WriteAction;
use crate::xrpc::{
    Caller, Host, HostIdentity, ServerContact, ServerDescription, ServerLinks, XrpcAuth, XrpcError,
    bearer_token,
};

/// Knows callers by the access tokens of their sessions.
pub(super) struct SessionAuth(pub(super) Pds);

/// Somebody with a session.
pub(super) struct SessionCaller {
    pds: Pds,
    client: String,
    pub(super) did: Did,
    pub(super) scope: Scope,
}

impl Pds {
    /// The account whose access token the request shows.
    pub(super) async fn caller(&self, request: &Parts) -> Result<SessionCaller, XrpcError> {
        let (did, scope) = self.tokens().read_access(bearer_token(request)?)?;
        // A token outlives its account by up to two hours.
        self.account(&did).await?;
        Ok(SessionCaller { pds: self.clone(), client: client(request), did, scope })
    }
}

#[async_trait]
impl XrpcAuth for SessionAuth {
    async fn authenticate(&self, _method: &Nsid, request: &Parts) -> Result<Arc<dyn Caller>, XrpcError> {
        Ok(Arc::new(self.0.caller(request).await?))
    }
}

impl Caller for SessionCaller {
    fn may_commit(&self, repo: &Did) -> Result<(), XrpcError> {
        if *repo == self.did {
            Ok(())
        } else {
            Err(XrpcError::authentication_required("Authentication Required"))
        }
    }

    fn may_write(&self, _repo: &Did, _collection: &Nsid, action: WriteAction) -> Result<(), XrpcError> {
        self.pds.count(Counted::Writes, self.did.as_str(), points(action))
    }

    fn may_put(&self, repo: &Did, collection: &Nsid) -> Result<(), XrpcError> {
        self.may_write(repo, collection, WriteAction::Update)
    }

    fn may_upload(&self, _mime_type: &str) -> Result<Did, XrpcError> {
        self.pds.count(Counted::Uploads, &self.client, 1)?;
        Ok(self.did.clone())
    }
}

/// What the XRPC server asks about this PDS.
pub(super) struct PdsHost(pub(super) Pds);

#[async_trait]
impl Host for PdsHost {
    fn describe(&self) -> ServerDescription {
        let config = self.0.config();
        ServerDescription {
            did: self.0.did().clone(),
            available_user_domains: config.available_user_domains.clone(),
            invite_code_required: false,
            blob_upload_limit: config.blob_limit,
            links: ServerLinks::default(),
            contact: ServerContact::default(),
        }
    }

    async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, XrpcError> {
        Ok(self.0.resolve_handle(handle).await?)
    }

    async fn identity(&self, did: &Did) -> Result<HostIdentity, XrpcError> {
        let account = self.0.account(did).await?;
        let document = self.0.plc().document(did).await.map_err(AccountError::from)?;
        let claimed = format!("at://{}", account.handle);
        let names = document.get("alsoKnownAs").and_then(Value::as_array);
        let handle_is_correct =
            names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(&claimed)));
        Ok(HostIdentity { handle: account.handle, document, handle_is_correct })
    }

    async fn own_document(&self) -> Option<Value> {
        None
    }
}
