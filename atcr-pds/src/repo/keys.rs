use std::collections::HashMap;
use std::sync::RwLock;

use async_trait::async_trait;
use atcr_core::crypto::SigningKey;
use atcr_core::syntax::Did;

/// Why a signing key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none for this account.
    #[error("no signing key is kept for {0}")]
    Missing(Did),
    /// The place where keys are kept failed.
    #[error("the signing key of {did} could not be read: {cause}")]
    Unavailable {
        /// Whose key.
        did: Did,
        /// What went wrong.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where the signing keys of the repos come from: a key file for a hold, a table for a server with accounts.
///
/// Asked before each signature, while the writer waits: an implementation keeps its keys in memory, and does not read
/// from the store of the repos. To rotate a key: make the new one the
/// answer, then call [`Repos::resign`](super::Repos::resign).
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The key that signs commits of `did`: the one of its DID document's `#atproto` method.
    async fn signing_key(&self, did: &Did) -> Result<SigningKey, KeyError>;
}

/// Keys in memory.
#[derive(Debug, Default)]
pub struct MemoryKeys(RwLock<HashMap<Did, SigningKey>>);

impl MemoryKeys {
    /// Sets the key of an account, in place of the one before.
    pub fn insert(&self, did: Did, key: SigningKey) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(did, key);
    }
}

#[async_trait]
impl KeyStore for MemoryKeys {
    async fn signing_key(&self, did: &Did) -> Result<SigningKey, KeyError> {
        let keys = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.get(did).cloned().ok_or_else(|| KeyError::Missing(did.clone()))
    }
}
