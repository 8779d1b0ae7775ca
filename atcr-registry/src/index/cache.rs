use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atcr_core::oci::{Reference, RepositoryName};
use atcr_core::syntax::{Did, Handle};
use moka::future::Cache;

use super::lookup::{Account, Lookup};

/// Repos share this many counters of changes, so that their memory does not grow with the network.
const COUNTERS: usize = 4096;
/// Manifests that are kept in memory, in bytes.
const MANIFESTS: u64 = 64 * 1024 * 1024;
const ACCOUNTS: u64 = 20_000;

/// A name of a manifest as it is asked for.
pub(super) type Key = (Did, RepositoryName, Reference);

/// Answers that were given, each with the count of changes that it was read after. One that was read before the
/// newest change is not given again: so what was written is what is read next, by anybody.
pub(super) struct Caches {
    enabled: bool,
    changes: Box<[AtomicU64]>,
    hasher: RandomState,
    pub(super) manifests: Cache<Key, (u64, Lookup)>,
    pub(super) accounts: Cache<Did, (u64, Option<Arc<Account>>)>,
    /// Counts changes of who is called what.
    pub(super) identities: AtomicU64,
    pub(super) handles: Cache<Handle, (u64, Option<Did>)>,
}

impl Caches {
    pub(super) fn new(enabled: bool) -> Self {
        let weigh = |_: &Key, (_, lookup): &(u64, Lookup)| {
            let bytes = match lookup {
                Lookup::Found(found) => found.bytes.as_ref().map_or(0, bytes::Bytes::len),
                Lookup::Missing => 0,
            };
            u32::try_from(bytes + 512).unwrap_or(u32::MAX)
        };
        Self {
            enabled,
            changes: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            manifests: Cache::builder().max_capacity(MANIFESTS).weigher(weigh).build(),
            accounts: Cache::builder().max_capacity(ACCOUNTS).build(),
            identities: AtomicU64::new(0),
            handles: Cache::builder().max_capacity(ACCOUNTS).build(),
        }
    }

    fn counter(&self, did: &Did) -> &AtomicU64 {
        let hash = usize::try_from(self.hasher.hash_one(did) % COUNTERS as u64).unwrap_or_default();
        &self.changes[hash]
    }

    /// How often the repo (or one of those that share its counter) has changed. To be read before the database is.
    pub(super) fn count(&self, did: &Did) -> u64 {
        self.counter(did).load(Ordering::Acquire)
    }

    /// To be called after a change is durable, and before it is acknowledged.
    pub(super) fn changed(&self, did: &Did) {
        self.counter(did).fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }
}
