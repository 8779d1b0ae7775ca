//! Acting at an account's own PDS in its name.
//!
//! [`PdsSessions`] is what the rest of atcr uses; [`AccountSessions`] implements it with sessions that people
//! open by OAuth ([`WebSignIn`](crate::WebSignIn)) or with an app password ([`SignIn`]), kept in a [`SessionStore`].

mod account_sessions;
mod attempts;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod locks;
mod memory;
mod pds;
mod refresh;
mod sealing;
mod service_tokens;
mod sign_in;
#[cfg(feature = "sqlite")]
mod sqlite;
mod static_sign_in;
mod store;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::did_resolver::ResolveError;
use atcr_core::syntax::Did;
use atcr_core::xrpc::XrpcError;
use bytes::Bytes;

use crate::oauth::OAuthError;

pub use account_sessions::{AccountSessions, OnSignIn};
pub(crate) use account_sessions::{Opened, parse_identifier};
pub(crate) use attempts::Attempts;
pub use memory::MemorySessionStore;
pub use sealing::{SealError, SealingKey};
pub use sign_in::{SignIn, SignInError};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSessionStore;
pub use static_sign_in::StaticSignIn;
pub use store::{SessionStore, SessionStoreError, StoredSession};

/// Acts at accounts' PDSs in their name.
///
/// Contract: a token of an account is sent to the PDS that issued it and nowhere else; one refresh
/// serves however many calls need it at the same time, whether or not their futures are dropped; a session that its
/// PDS has ended is [`SessionError::NoSession`] from then on.
#[async_trait]
pub trait PdsSessions: Debug + Send + Sync + 'static {
    /// Calls a query (`GET`) and gives its JSON output.
    async fn query(
        &self,
        did: &Did,
        method: &str,
        params: &[(&str, &str)],
    ) -> Result<serde_json::Value, SessionError>;

    /// Calls a procedure (`POST`) with a JSON input and gives its JSON output, `null` where it has none.
    async fn procedure(
        &self,
        did: &Did,
        method: &str,
        input: serde_json::Value,
    ) -> Result<serde_json::Value, SessionError>;

    /// Calls a procedure whose input is bytes, such as `com.atproto.repo.uploadBlob`.
    async fn upload(
        &self,
        did: &Did,
        method: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<serde_json::Value, SessionError>;

    /// A service token of the account's PDS for one method of one service, good for at least ten seconds more.
    /// Tokens are cached; concurrent calls for one become one request.
    async fn service_token(&self, did: &Did, audience: &Did, method: &str) -> Result<String, SessionError>;
}

/// Why something could not be done at an account's PDS.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The account is not signed in here, or its PDS has ended the session.
    #[error("{0} is not signed in here any more; sign in again, in the browser or with docker login")]
    NoSession(Did),
    /// The PDS refused, or cannot be reached.
    #[error(transparent)]
    Xrpc(Arc<XrpcError>),
    /// The account's PDS cannot be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The authorization server refused, or cannot be reached.
    #[error(transparent)]
    OAuth(Arc<OAuthError>),
    /// The sessions cannot be read or written.
    #[error(transparent)]
    Store(#[from] SessionStoreError),
}

impl SessionError {
    /// What the PDS answered, if that is the reason.
    pub fn xrpc(&self) -> Option<&XrpcError> {
        match self {
            Self::Xrpc(error) => Some(error),
            _ => None,
        }
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSession(_) => false,
            Self::Xrpc(error) => error.is_transient(),
            Self::OAuth(error) => error.is_transient(),
            Self::Resolve(error) => matches!(error, ResolveError::Unavailable { .. }),
            Self::Store(_) => true,
        }
    }
}

impl From<OAuthError> for SessionError {
    fn from(error: OAuthError) -> Self {
        Self::OAuth(Arc::new(error))
    }
}

impl From<XrpcError> for SessionError {
    fn from(error: XrpcError) -> Self {
        Self::Xrpc(Arc::new(error))
    }
}
