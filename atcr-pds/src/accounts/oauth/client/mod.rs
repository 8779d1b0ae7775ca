//! Programs that ask for access: who they are, and how they prove it.

mod assertion;
mod documents;
mod loopback;
mod metadata;
mod redirect;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use serde::{Deserialize, Serialize};
use url::Url;

pub use documents::{ClientDocuments, DocumentError, EgressDocuments};
use metadata::Metadata;
pub(super) use redirect::check as check_redirect_uri;

use super::OAuthError;
use super::jwt::Jwk;
use crate::Clock;

/// Clients whose documents are remembered, and for how long.
const MAX_CLIENTS: u64 = 1000;
const DOCUMENT_AGE: Duration = Duration::from_secs(10 * 60);
/// The longest client identifier, in bytes.
const MAX_CLIENT_ID: usize = 2048;
/// A key that is not known is looked for again, at most once in so many seconds.
const KEYS_AGAIN: i64 = 30;

/// A client as its document describes it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) uri: Option<Url>,
    redirect_uris: Vec<String>,
    scopes: Vec<String>,
    pub(super) refreshes: bool,
    pub(super) auth: AuthMethod,
    loaded: i64,
}

/// How a client proves who it is.
#[derive(Debug)]
pub(super) enum AuthMethod {
    /// Not at all.
    None,
    /// By assertions that one of these keys signs (RFC 7523).
    PrivateKeyJwt(Vec<Jwk>),
}

/// How a client has proven who it is; sessions stay bound to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub(super) enum ClientAuth {
    None,
    PrivateKeyJwt { kid: String, alg: String, jkt: String },
}

impl Client {
    /// Whether the client has declared that it may ask for a scope.
    pub(super) fn declares(&self, scope: &str) -> bool {
        self.scopes.iter().any(|declared| declared == scope)
    }

    /// The redirect URI to be used, if the client registered it. It may be left out where there is only one.
    pub(super) fn redirect_uri(&self, asked: Option<&str>) -> Result<String, OAuthError> {
        match (asked, self.redirect_uris.as_slice()) {
            (None, [only]) => Ok(only.clone()),
            (None, _) => Err(OAuthError::invalid_request("redirect_uri is required")),
            (Some(asked), registered) if registered.iter().any(|uri| redirect::matches(uri, asked)) => {
                Ok(asked.to_owned())
            }
            (Some(asked), _) => Err(OAuthError::invalid_request(format!("Invalid redirect_uri {asked}"))),
        }
    }

    pub(super) fn is_public(&self) -> bool {
        matches!(self.auth, AuthMethod::None)
    }

    /// Where the client comes from, as far as that is known for sure.
    pub(super) fn origin(&self) -> String {
        match Url::parse(&self.id) {
            Ok(url) if url.scheme() == "https" => url.host_str().unwrap_or_default().to_owned(),
            _ => "a program on this computer".to_owned(),
        }
    }
}

/// Finds clients.
#[derive(Debug)]
pub(super) struct Clients {
    documents: Option<Arc<dyn ClientDocuments>>,
    known: Cache<String, Arc<Client>>,
    clock: Clock,
}

impl Clients {
    pub(super) fn new(documents: Option<Arc<dyn ClientDocuments>>, clock: Clock) -> Self {
        let known = Cache::builder().max_capacity(MAX_CLIENTS).time_to_live(DOCUMENT_AGE).build();
        Self { documents, known, clock }
    }

    /// The client of an identifier: what the identifier itself says for programs on this computer, otherwise the
    /// document that it is the address of.
    pub(super) async fn get(&self, id: &str) -> Result<Arc<Client>, OAuthError> {
        if id.len() > MAX_CLIENT_ID {
            return Err(OAuthError::invalid_client_metadata("the client_id is longer than 2,048 bytes"));
        }
        if loopback::is_loopback(id) {
            return loopback::client(id).map(Arc::new);
        }
        let load = self.known.try_get_with_by_ref(id, self.load(id));
        load.await.map_err(|error| (*error).clone())
    }

    /// The client, with its keys as they are now if `kid` is not among those that are known.
    pub(super) async fn with_key(&self, client: Arc<Client>, kid: &str) -> Result<Arc<Client>, OAuthError> {
        let AuthMethod::PrivateKeyJwt(keys) = &client.auth else { return Ok(client) };
        let known = keys.iter().any(|key| key.kid.as_deref() == Some(kid));
        if known || self.clock.now().as_second() - client.loaded < KEYS_AGAIN {
            return Ok(client);
        }
        self.known.invalidate(&client.id).await;
        self.get(&client.id).await
    }

    async fn load(&self, id: &str) -> Result<Arc<Client>, OAuthError> {
        let url = metadata::document_url(id)?;
        let Some(documents) = &self.documents else {
            return Err(OAuthError::invalid_client_metadata(format!(
                "Unable to obtain client metadata for \"{id}\": this server knows only clients on this computer"
            )));
        };
        let document = documents.fetch(&url).await.map_err(|error| {
            OAuthError::invalid_client_metadata(format!(
                "Unable to obtain client metadata for \"{id}\": {error}"
            ))
        })?;
        let metadata = Metadata::read(id, &url, &document)?;
        let keys = match &metadata.jwks_uri {
            None => None,
            Some(uri) => Some(documents.fetch(uri).await.map_err(|error| {
                OAuthError::invalid_client_metadata(format!(
                    "Unable to obtain jwks from \"{uri}\" for \"{id}\": {error}"
                ))
            })?),
        };
        metadata.client(keys.as_deref(), self.clock.now().as_second()).map(Arc::new)
    }
}
