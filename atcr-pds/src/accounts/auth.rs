use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::syntax::{Did, Handle, Nsid};
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;

use super::limits::{Counted, client, points};
use super::oauth::{RepoAction, Scopes};
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
    pub(super) rights: Rights,
}

/// What a session is good for.
pub(super) enum Rights {
    /// One opened with a password.
    Password(Scope),
    /// One that the account's owner has let a client open.
    OAuth(Scopes),
}

/// 403: the session has not been given this scope.
pub(super) fn scope_missing(scope: String) -> XrpcError {
    let message = format!("Missing required scope \"{scope}\"");
    XrpcError::new(StatusCode::FORBIDDEN, "ScopeMissingError", message)
}

impl Pds {
    /// The account whose access token the request shows.
    pub(super) async fn caller(&self, request: &Parts) -> Result<SessionCaller, XrpcError> {
        let (did, rights) = if let Some((did, scopes)) = self.oauth_caller(request).await? {
            (did, Rights::OAuth(scopes))
        } else {
            let (did, scope) = self.tokens().read_access(bearer_token(request)?)?;
            (did, Rights::Password(scope))
        };
        // A token outlives its account by up to two hours.
        self.account(&did).await?;
        Ok(SessionCaller { pds: self.clone(), client: client(request), did, rights })
    }
}

impl SessionCaller {
    fn check_repo(&self, collection: &Nsid, action: RepoAction) -> Result<(), XrpcError> {
        match &self.rights {
            Rights::Password(_) => Ok(()),
            Rights::OAuth(scopes) => scopes.check_repo(collection, action).map_err(scope_missing),
        }
    }

    /// The account, for a method that needs its own password, or by OAuth what `check` looks for.
    pub(super) fn manages(self, check: impl FnOnce(&Scopes) -> Result<(), String>) -> Result<Did, XrpcError> {
        match &self.rights {
            Rights::Password(Scope::Access) => Ok(self.did),
            Rights::Password(_) => Err(XrpcError::invalid_token("Bad token scope")),
            Rights::OAuth(scopes) => check(scopes).map_err(scope_missing).map(|()| self.did),
        }
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

    fn may_write(&self, _repo: &Did, collection: &Nsid, action: WriteAction) -> Result<(), XrpcError> {
        match action {
            WriteAction::Create => self.check_repo(collection, RepoAction::Create)?,
            WriteAction::Update => self.check_repo(collection, RepoAction::Update)?,
            WriteAction::Delete => self.check_repo(collection, RepoAction::Delete)?,
            WriteAction::Unchanged => {}
        }
        self.pds.count(Counted::Writes, self.did.as_str(), points(action))
    }

    fn may_put(&self, repo: &Did, collection: &Nsid) -> Result<(), XrpcError> {
        self.check_repo(collection, RepoAction::Create)?;
        self.may_write(repo, collection, WriteAction::Update)
    }

    fn may_upload(&self, mime_type: &str) -> Result<Did, XrpcError> {
        if let Rights::OAuth(scopes) = &self.rights {
            scopes.check_blob(mime_type).map_err(scope_missing)?;
        }
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
