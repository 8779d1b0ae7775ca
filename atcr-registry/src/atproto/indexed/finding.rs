//! Finding a manifest in the index, and what is done when it is not there or may have moved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atcr_core::manifest_store::ManifestStore as _;
use atcr_core::oci::{Digest, Manifest, Reference, RepositoryName};
use atcr_core::syntax::Did;
use atcr_core::{Access, StoreError};

use super::super::hold_locator::shared;
use super::super::manifest_store::MANIFEST_LIMIT;
use super::super::names::OwnedRepository;
use super::manifest_store::IndexedManifestStore;
use crate::index::{Account, Event, Lookup, StoredManifest};

/// How long a PDS may take to confirm a tag before what is known is given instead.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A question to a PDS: whose repository, and which manifest.
pub(super) type Asked = (Did, RepositoryName, Reference);

/// Where a manifest was found.
pub(super) enum Found {
    Indexed(OwnedRepository, Arc<StoredManifest>),
    Asked(Manifest),
}

fn unknown(reference: impl fmt::Display) -> StoreError {
    StoreError::NotFound(format!("the manifest {reference}"))
}

/// Whether a PDS did not answer, as against answering no.
pub(super) fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::RateLimited { .. } | StoreError::Internal(_))
}

impl IndexedManifestStore {
    /// Finds a manifest in the index, or asks its owner's PDS for it.
    pub(super) async fn find(&self, access: &Access, reference: &Reference) -> Result<Found, StoreError> {
        let owned = self.owned(access).await?;
        let account = self.known.complete(&owned.owner).await?;
        let lookup = self.known.index.lookup(&owned.owner, &owned.name, reference).await?;
        let is_tag = matches!(reference, Reference::Tag(_));
        match (lookup, account) {
            (Lookup::Found(found), Some(account)) if !is_tag || self.known.is_watched(&account) => {
                Ok(Found::Indexed(owned, found))
            }
            // A digest that the index has is right even where other things are missing.
            (Lookup::Found(found), None) if !is_tag => Ok(Found::Indexed(owned, found)),
            (Lookup::Found(found), account) => self.confirm(access, owned, reference, found, account).await,
            (Lookup::Missing, account) => {
                if account.is_none() {
                    self.known.read_soon(&owned.owner).await;
                }
                self.ask_for_unknown(access, owned, reference, account.is_some()).await.map(Found::Asked)
            }
        }
    }

    /// A tag that may have moved unseen: the PDS is asked, and what is known is given if that does not answer.
    async fn confirm(
        &self,
        access: &Access,
        owned: OwnedRepository,
        reference: &Reference,
        found: Arc<StoredManifest>,
        account: Option<Arc<Account>>,
    ) -> Result<Found, StoreError> {
        let asked = (owned.owner.clone(), owned.name.clone(), reference.clone());
        let changes = self.known.index.changes(&owned.owner);
        let is_confirmed = account.is_some() && self.confirmed.get(&asked).await == Some(changes);
        if is_confirmed || self.down.contains_key(&owned.owner) {
            return Ok(Found::Indexed(owned, found));
        }
        match tokio::time::timeout(PATIENCE, self.ask(access, &asked)).await {
            Ok(Ok(manifest)) if manifest.digest == found.digest => {
                self.confirmed.insert(asked, changes).await;
                Ok(Found::Indexed(owned, found))
            }
            Ok(Ok(manifest)) => {
                if account.is_some() {
                    let missed = Event::Missed { did: owned.owner.clone(), rev: None };
                    self.known.index.apply(&[missed], None).await?;
                }
                self.known.ingest.wake();
                Ok(Found::Asked(manifest))
            }
            Ok(Err(error)) if !is_away(&error) => Err(error),
            _ => {
                tracing::info!(owner = %owned.owner, "the PDS does not answer; what is known of it is given");
                self.down.insert(owned.owner.clone(), ()).await;
                Ok(Found::Indexed(owned, found))
            }
        }
    }

    /// What the index does not have may have come to the PDS a moment ago. If that does not answer, it is not there for
    /// an owner of whom all is known (`all_is_known`).
    async fn ask_for_unknown(
        &self,
        access: &Access,
        owned: OwnedRepository,
        reference: &Reference,
        all_is_known: bool,
    ) -> Result<Manifest, StoreError> {
        let OwnedRepository { owner, name } = owned;
        let asked = (owner.clone(), name, reference.clone());
        let changes = self.known.index.changes(&owner);
        let is_left_alone = all_is_known && self.down.contains_key(&owner);
        if is_left_alone || self.absent.get(&asked).await == Some(changes) {
            return Err(unknown(reference));
        }
        let answer = if all_is_known {
            let late = |_| Err(StoreError::unavailable(format!("the PDS of {owner}"), "it takes too long"));
            tokio::time::timeout(PATIENCE, self.fetch(access, &asked)).await.unwrap_or_else(late)
        } else {
            self.fetch(access, &asked).await
        };
        match &answer {
            Err(error) if all_is_known && is_away(error) => {
                self.down.insert(owner, ()).await;
                return Err(unknown(reference));
            }
            Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => {
                self.absent.insert(asked, changes).await;
            }
            _ => {}
        }
        answer
    }

    /// Asks the PDS, once for all who want the same at the same time.
    async fn ask(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let answer = self.under_way.try_get_with_by_ref(asked, self.question(access, asked)).await;
        // Whoever asks later asks anew.
        self.under_way.invalidate(asked).await;
        answer.map_err(shared)
    }

    /// The same for those who come within a second, too: what is pushed here is not asked for this way.
    async fn fetch(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let answer = self.fetched.try_get_with_by_ref(asked, self.question(access, asked)).await;
        answer.map_err(shared)
    }

    async fn question(&self, access: &Access, asked: &Asked) -> Result<Manifest, StoreError> {
        let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
        self.inner.get(access, &asked.2).await
    }

    /// The bytes of a manifest that the index knows.
    pub(super) async fn bytes(
        &self,
        access: &Access,
        owned: &OwnedRepository,
        found: &StoredManifest,
    ) -> Result<Manifest, StoreError> {
        let manifest = |bytes| Manifest { digest: found.digest, media_type: found.media_type.clone(), bytes };
        if let Some(bytes) = &found.bytes {
            return Ok(manifest(bytes.clone()));
        }
        let asked = (owned.owner.clone(), owned.name.clone(), Reference::Digest(found.digest));
        let fetch = async {
            let _turn = self.questions.acquire().await.map_err(StoreError::internal)?;
            if let Some(blob) = &found.pds_blob {
                let bytes = self.reader.blob(&owned.owner, blob, MANIFEST_LIMIT).await?;
                if Digest::of(found.digest.algorithm(), &bytes) == found.digest {
                    return Ok(manifest(bytes));
                }
            }
            self.inner.get(access, &asked.2).await
        };
        let fetched = self.under_way.try_get_with_by_ref(&asked, fetch).await;
        self.under_way.invalidate(&asked).await;
        let fetched = fetched.map_err(shared)?;
        self.known.index.keep_manifest(&owned.owner, &fetched).await?;
        Ok(fetched)
    }
}
