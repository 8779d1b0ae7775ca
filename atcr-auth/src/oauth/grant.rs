use serde::{Deserialize, Serialize};

use super::Es256Key;
use super::scope::Granted;

/// What a session that was opened by OAuth has beside its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthGrant {
    /// The authorization server.
    pub issuer: String,
    /// Who the registry was when it opened the session.
    pub client_id: String,
    /// The key by which it proved that, by its identifier; a public client has none.
    pub client_key: Option<String>,
    /// The key that the tokens are bound to.
    pub dpop_key: Es256Key,
    /// What was granted.
    pub scope: String,
    /// When the access token ends, in seconds since 1970.
    pub expires_at: i64,
}

impl OAuthGrant {
    /// Whether what was granted is all that a registry needs; what it needs may have grown since.
    pub fn is_enough(&self) -> bool {
        Granted::parse(&self.scope).missing().is_empty()
    }
}
