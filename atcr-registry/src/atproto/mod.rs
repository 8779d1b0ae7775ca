//! A registry on the AT Protocol: manifests and tags are records in their owners' repos, blobs are in holds.
//!
//! [`Network`] makes the two stores that a [`Registry`](crate::Registry) is built over. Repositories are called
//! `<handle or DID>/<name>`; a DID may be written with hyphens for its first two colons (`did-plc-xyz/app`).

mod blob_store;
mod hold_client;
mod hold_directory;
mod hold_locator;
mod hold_upload;
#[cfg(feature = "index")]
mod indexed;
mod journal;
mod manifest_store;
mod names;
mod notify;
mod own_records;
mod part_upload;
mod pds_reader;
mod welcome;

use std::sync::Arc;

use atcr_auth::PdsSessions;
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::egress::Egress;
use atcr_core::syntax::Did;
use url::Url;

pub use blob_store::{BlobDelivery, HoldBlobStore};
#[cfg(feature = "index")]
pub use indexed::{IndexedManifestStore, indexed_identities};
pub use manifest_store::PdsManifestStore;
pub use own_records::{Change, OwnRecords};
pub use welcome::Welcome;

use hold_client::HoldClient;
use hold_locator::HoldLocator;
use notify::HoldNotifier;
use pds_reader::PdsReader;

/// How a registry reaches the rest of the network.
#[derive(Debug, Clone)]
pub struct Network {
    /// The way out.
    pub egress: Egress,
    /// Who is who.
    pub identities: IdentityResolver,
    /// Acting at people's PDSs in their name.
    pub sessions: Arc<dyn PdsSessions>,
    /// The hold for those who have chosen none in their profile.
    pub default_hold: Did,
    /// How clients get a blob's bytes.
    pub delivery: BlobDelivery,
    /// Where clients reach the registry. They are not redirected to a storage under the same name, since they would
    /// send it the registry's token, which storages refuse.
    pub public_url: Url,
}

impl Network {
    /// The two stores, which share what they learn about where blobs are.
    pub fn stores(self) -> (PdsManifestStore, HoldBlobStore) {
        let Self { egress, identities, sessions, default_hold, delivery, public_url } = self;
        let reader = PdsReader::new(egress.clone(), identities.clone());
        let locator = HoldLocator::new(reader.clone(), default_hold);
        let holds = HoldClient::new(egress, Arc::clone(identities.dids()), Arc::clone(&sessions));
        let notifier = HoldNotifier::new(holds.clone());
        let blobs = HoldBlobStore::new(identities.clone(), holds, locator.clone(), delivery, public_url);
        let records = OwnRecords::new(reader, sessions);
        (PdsManifestStore::new(identities, records, locator, notifier), blobs)
    }

    /// The two stores in front of which an index stands: what it knows is answered without asking anybody.
    #[cfg(feature = "index")]
    pub fn indexed_stores(
        self,
        index: &crate::index::Index,
        ingest: &crate::ingest::Ingest,
    ) -> (IndexedManifestStore, HoldBlobStore) {
        let Self { egress, identities, sessions, default_hold, delivery, public_url } = self;
        let reader = PdsReader::new(egress.clone(), identities.clone());
        let known = indexed::Known::new(index.clone(), ingest.clone(), Arc::clone(identities.dids()));
        let locator = HoldLocator::new(reader.clone(), default_hold).with_directory(Arc::new(known.clone()));
        let holds = HoldClient::new(egress, Arc::clone(identities.dids()), Arc::clone(&sessions));
        let notifier = HoldNotifier::new(holds.clone());
        let blobs = HoldBlobStore::new(identities.clone(), holds, locator.clone(), delivery, public_url);
        let records = OwnRecords::new(reader.clone(), sessions).with_journal(Arc::new(known.clone()));
        let of_pds = PdsManifestStore::new(identities.clone(), records, locator, notifier);
        (IndexedManifestStore::new(of_pds, known, identities, reader), blobs)
    }
}
