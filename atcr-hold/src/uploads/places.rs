//! Where blobs are, remembered for a second, so that a blob that many ask for is not looked up each time.
//!
//! In one process the memory is exact: what changes a blob, or which repository has it, makes it forgotten before that is
//! acknowledged. What another process changes is seen within a second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::syntax::Did;

use crate::storage::ObjectKey;

/// Blobs that are remembered at most.
const MOST: usize = 20_000;
/// Repositories that are remembered of one blob.
const MOST_REPOSITORIES: usize = 16;

/// Where blobs were this second.
#[derive(Debug, Default)]
pub(super) struct Places {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts what was forgotten: what was read before and comes after is not kept.
    changes: u64,
    known: HashMap<Digest, Known>,
}

#[derive(Debug)]
struct Known {
    second: i64,
    place: Option<(ObjectKey, u64)>,
    /// Whether it was deleted from these repositories.
    withdrawn: Vec<(Did, RepositoryName, bool)>,
}

/// The time before a look at the database, whose result is kept unless something changed meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    changes: u64,
    second: i64,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before the database is asked.
    pub(super) fn look(&self, now: i64) -> Look {
        Look { changes: self.lock().changes, second: now }
    }

    /// Where the blob is.
    pub(super) fn place(&self, digest: &Digest, now: i64) -> Option<(ObjectKey, u64)> {
        self.lock().known.get(digest).filter(|known| known.second == now)?.place.clone()
    }

    /// Whether the blob was deleted from the repository.
    pub(super) fn withdrawn(
        &self,
        digest: &Digest,
        owner: &Did,
        repository: &RepositoryName,
        now: i64,
    ) -> Option<bool> {
        let inner = self.lock();
        let known = inner.known.get(digest).filter(|known| known.second == now)?;
        let found = known.withdrawn.iter().find(|(did, name, _)| did == owner && name == repository);
        found.map(|(_, _, withdrawn)| *withdrawn)
    }

    /// Remembers where the database has the blob.
    pub(super) fn found(&self, look: Look, digest: &Digest, place: &(ObjectKey, u64)) {
        self.note(look, digest, |known| known.place = Some(place.clone()));
    }

    /// Remembers what the database says of the blob in a repository.
    pub(super) fn asked(
        &self,
        look: Look,
        digest: &Digest,
        owner: &Did,
        repository: &RepositoryName,
        withdrawn: bool,
    ) {
        self.note(look, digest, |known| {
            if known.withdrawn.len() < MOST_REPOSITORIES {
                known.withdrawn.push((owner.clone(), repository.clone(), withdrawn));
            }
        });
    }

    fn note(&self, look: Look, digest: &Digest, note: impl FnOnce(&mut Known)) {
        let mut inner = self.lock();
        if inner.changes != look.changes {
            return;
        }
        if inner.known.len() >= MOST && !inner.known.contains_key(digest) {
            inner.known.retain(|_, known| known.second == look.second);
            if inner.known.len() >= MOST {
                inner.known.clear();
            }
        }
        let fresh = Known { second: look.second, place: None, withdrawn: Vec::new() };
        let known = inner.known.entry(*digest).or_insert_with(|| fresh);
        if known.second != look.second {
            *known = Known { second: look.second, place: None, withdrawn: Vec::new() };
        }
        note(known);
    }

    /// Forgets a blob, after the database has changed.
    pub(super) fn forget(&self, digest: &Digest) {
        let mut inner = self.lock();
        inner.changes += 1;
        inner.known.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (ObjectKey, u64) {
        (ObjectKey::of_blob(&Digest::sha256(b"x")), 1)
    }

    #[test]
    fn a_place_is_remembered_for_its_second_and_forgotten_at_once() {
        let (places, digest) = (Places::default(), Digest::sha256(b"x"));
        let look = places.look(7);
        places.found(look, &digest, &place());
        assert_eq!(places.place(&digest, 7), Some(place()));
        assert_eq!(places.place(&digest, 8), None);
        places.forget(&digest);
        assert_eq!(places.place(&digest, 7), None);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (places, digest) = (Places::default(), Digest::sha256(b"x"));
        let (owner, name): (Did, RepositoryName) = ("did:plc:alice".parse().unwrap(), "app".parse().unwrap());
        let look = places.look(7);
        places.forget(&digest);
        places.found(look, &digest, &place());
        places.asked(look, &digest, &owner, &name, false);
        assert_eq!(places.place(&digest, 7), None);
        assert_eq!(places.withdrawn(&digest, &owner, &name, 7), None);
        places.asked(places.look(7), &digest, &owner, &name, true);
        assert_eq!(places.withdrawn(&digest, &owner, &name, 7), Some(true));
        assert_eq!(places.place(&digest, 7), None, "nobody asked for that");
    }

    #[test]
    fn the_memory_has_an_end() {
        let places = Places::default();
        for n in 0..MOST + 10 {
            let digest = Digest::sha256(&n.to_be_bytes());
            places.found(places.look(7), &digest, &place());
        }
        assert!(places.lock().known.len() <= MOST);
    }
}
