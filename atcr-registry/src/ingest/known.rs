use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::RwLock;

/// The accounts that the index knows, as hashes: eight bytes and a little for each.
///
/// Two accounts may share a hash. Then one that is not known is taken for known and looked at, which does no harm.
#[derive(Debug, Default)]
pub struct Known {
    hasher: RandomState,
    hashes: RwLock<HashSet<u64>>,
}

impl Known {
    /// Adds an account; `true` when it was not there.
    pub fn insert(&self, did: &str) -> bool {
        let hash = self.hasher.hash_one(did);
        self.hashes.write().is_ok_and(|mut hashes| hashes.insert(hash))
    }

    /// Whether an account is known.
    pub fn contains(&self, did: &str) -> bool {
        let hash = self.hasher.hash_one(did);
        self.hashes.read().is_ok_and(|hashes| hashes.contains(&hash))
    }
}
