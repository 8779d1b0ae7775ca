use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::Source;
use atcr_core::syntax::{Did, Handle};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::oauth::OAuthGrant;

/// A session at a PDS. Its `Debug` form hides the tokens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// Whose session.
    pub did: Did,
    /// Their handle when they signed in.
    pub handle: Option<Handle>,
    /// The PDS that issued the tokens, and the only one that gets them.
    pub pds: Url,
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// What an OAuth session has beside; `None` for one that was opened with an app password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthGrant>,
}

impl StoredSession {
    /// A session that was opened with an app password.
    pub fn with_password(
        did: Did,
        handle: Option<Handle>,
        pds: Url,
        access: String,
        refresh: String,
    ) -> Self {
        Self { did, handle, pds, access, refresh, oauth: None }
    }
}

impl Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSession")
            .field("did", &self.did)
            .field("handle", &self.handle)
            .field("pds", &self.pds.as_str())
            .field("issuer", &self.oauth.as_ref().map(|grant| &grant.issuer))
            .finish_non_exhaustive()
    }
}

/// Keeps one session for each account, for any number of processes.
///
/// Every change gives a session a new version that it never had before. Contract, checked by the suite in
/// the module `contract` (feature of that name): what was put is there after a restart (but for stores that say they
/// forget); of several [`SessionStore::lease`] calls for one version, wherever they are made, one succeeds until the
/// lease runs out or is released.
#[async_trait]
pub trait SessionStore: Debug + Send + Sync + 'static {
    /// The session of an account and its version.
    async fn get(&self, did: &Did) -> Result<Option<(StoredSession, i64)>, SessionStoreError>;

    /// Keeps a new session in the place of whatever was there, leases on that included.
    async fn put(&self, session: &StoredSession) -> Result<(), SessionStoreError>;

    /// Takes the right to redeem the refresh token of this version, until `until`. `false` when the version is not
    /// the current one, or somebody else holds that right at `now`. Times are seconds since 1970.
    async fn lease(&self, did: &Did, version: i64, now: i64, until: i64) -> Result<bool, SessionStoreError>;

    /// Gives the right back without having used it.
    async fn release(&self, did: &Did, version: i64) -> Result<(), SessionStoreError>;

    /// Replaces this version by what its refresh token was redeemed for. `false`, and nothing done, when the version
    /// is not the current one.
    async fn replace(&self, session: &StoredSession, version: i64) -> Result<bool, SessionStoreError>;

    /// Drops this version of a session; another one stays.
    async fn remove(&self, did: &Did, version: i64) -> Result<(), SessionStoreError>;
}

/// The sessions cannot be read or written; the cause is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the sessions of signed-in accounts cannot be read or written: {what}")]
pub struct SessionStoreError {
    what: &'static str,
    #[source]
    source: Arc<Source>,
}

impl SessionStoreError {
    /// An error from what was being done and what happened.
    pub fn new(what: &'static str, source: impl Into<Source>) -> Self {
        Self { what, source: Arc::new(source.into()) }
    }
}
