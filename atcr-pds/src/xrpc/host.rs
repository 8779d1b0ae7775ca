use async_trait::async_trait;
use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::{Did, DidMethod, Handle};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::XrpcError;

/// What the program around a [`Server`](super::Server) knows of itself and of the accounts whose repos it keeps.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The answer of `com.atproto.server.describeServer`.
    fn describe(&self) -> ServerDescription;

    /// The account of a handle. `None` when there is none, or none that this server can find.
    async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, XrpcError>;

    /// Handle and DID document of an account whose repo is kept here.
    async fn identity(&self, did: &Did) -> Result<HostIdentity, XrpcError>;

    /// The document for `/.well-known/did.json`, when the server is itself a did:web.
    async fn own_document(&self) -> Option<Value>;
}

/// The public identity of an account.
#[derive(Debug, Clone)]
pub struct HostIdentity {
    /// The handle; [`Handle::invalid`] when it does not resolve.
    pub handle: Handle,
    /// The DID document.
    pub document: Value,
    /// Whether handle and document agree both ways.
    pub handle_is_correct: bool,
}

/// What a server says about itself.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerDescription {
    /// The server's own DID.
    pub did: Did,
    /// Domains under which accounts can be made, each with a leading dot.
    pub available_user_domains: Vec<String>,
    /// Whether an account needs an invitation.
    pub invite_code_required: bool,
    /// The largest blob, in bytes.
    pub blob_upload_limit: u64,
    /// Privacy policy and terms of service.
    pub links: ServerLinks,
    /// How the operator is reached.
    pub contact: ServerContact,
}

/// Links of a [`ServerDescription`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerLinks {
    /// URL of the privacy policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy_policy: Option<String>,
    /// URL of the terms of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,
}

/// Contact of a [`ServerDescription`].
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServerContact {
    /// An e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// The host of one account that is the server itself, as a hold is: nothing changes while it runs.
#[derive(Debug, Clone)]
pub struct StaticHost {
    description: ServerDescription,
    handle: Handle,
    document: Value,
}

impl StaticHost {
    /// The host of the account that `document` describes. Its handle is the one that the document claims, or invalid.
    pub fn new(document: &DidDocument, blob_limit: u64) -> Result<Self, serde_json::Error> {
        Ok(Self {
            description: ServerDescription {
                did: document.id.clone(),
                available_user_domains: Vec::new(),
                invite_code_required: true,
                blob_upload_limit: blob_limit,
                links: ServerLinks::default(),
                contact: ServerContact::default(),
            },
            handle: document.claimed_handle().unwrap_or_else(Handle::invalid),
            document: serde_json::to_value(document)?,
        })
    }
}

#[async_trait]
impl Host for StaticHost {
    fn describe(&self) -> ServerDescription {
        self.description.clone()
    }

    async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, XrpcError> {
        Ok((*handle == self.handle).then(|| self.description.did.clone()))
    }

    async fn identity(&self, did: &Did) -> Result<HostIdentity, XrpcError> {
        if *did != self.description.did {
            let message = format!("Could not find repo: {did}");
            return Err(XrpcError::new(StatusCode::BAD_REQUEST, "InvalidRequest", message));
        }
        Ok(HostIdentity {
            handle: self.handle.clone(),
            document: self.document.clone(),
            handle_is_correct: self.handle != Handle::invalid(),
        })
    }

    async fn own_document(&self) -> Option<Value> {
        (self.description.did.method() == DidMethod::Web).then(|| self.document.clone())
    }
}
