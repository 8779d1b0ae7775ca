//! How many uploads of one principal go on at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use atcr_core::Principal;
use atcr_core::syntax::Did;

type Counts = Mutex<HashMap<Option<Did>, usize>>;

/// Counts the requests with blob content, by principal.
pub(crate) struct UploadSlots {
    limit: usize,
    counts: Arc<Counts>,
}

impl UploadSlots {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, counts: Arc::default() }
    }

    /// A place for one more request of this principal, until it is dropped; `None` when all are taken.
    pub(crate) fn take(&self, principal: &Principal) -> Option<Slot> {
        let did = principal.did().cloned();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(did.clone()).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Slot { did, counts: Arc::clone(&self.counts) })
    }
}

/// A place taken.
pub(crate) struct Slot {
    did: Option<Did>,
    counts: Arc<Counts>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.did) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.did);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use atcr_core::{Account, Proof};

    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_was_given_back_and_nothing_is_kept() {
        let slots = UploadSlots::new(2);
        let did = "did:plc:alice".parse().unwrap();
        let alice = Principal::Account(Account { did, handle: None, proof: Proof::Trusted });
        let first = slots.take(&alice);
        let second = slots.take(&alice);
        assert!(first.is_some() && second.is_some() && slots.take(&alice).is_none());
        assert!(slots.take(&Principal::Anonymous).is_some());
        drop(first);
        assert!(slots.take(&alice).is_some());
        drop(second);
        assert!(slots.counts.lock().unwrap().is_empty());
    }
}
