use std::time::Duration;

use atcr_core::methods::{NotifiedManifest, NotifyManifest, NotifyManifestInput, Operation};
use atcr_core::oci::{Manifest, RepositoryName, Tag};
use atcr_core::records::ManifestRecord;
use atcr_core::syntax::Did;

use super::hold_client::HoldClient;

/// How long a push waits for the hold to take note of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before trying again, in the background.
const RETRIES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];

/// Tells holds which manifests use their blobs.
#[derive(Debug, Clone)]
pub(super) struct HoldNotifier {
    holds: HoldClient,
}

impl HoldNotifier {
    pub(super) fn new(holds: HoldClient) -> Self {
        Self { holds }
    }

    /// Tells the hold of a push. The manifest is in the owner's repo already, so a hold that does not answer does not
    /// fail the push: it is told again in the background.
    pub(super) async fn pushed(
        &self,
        owner: &Did,
        repository: &RepositoryName,
        manifest: &Manifest,
        record: &ManifestRecord,
        tags: &[Tag],
    ) {
        let Some(hold) = record.hold() else { return };
        let Ok(content) = manifest.content() else { return };
        let input = NotifyManifestInput {
            repository: repository.clone(),
            user_did: owner.clone(),
            manifest_digest: manifest.digest,
            manifest: NotifiedManifest::new(manifest, &content),
            tag: tags.first().cloned(),
            operation: Operation::Push,
            user_handle: None,
        };
        if self.tell(&hold, owner, &input).await {
            return;
        }
        let (this, owner) = (self.clone(), owner.clone());
        tokio::spawn(async move {
            for pause in RETRIES {
                tokio::time::sleep(pause).await;
                if this.tell(&hold, &owner, &input).await {
                    return;
                }
            }
            tracing::error!(%hold, digest = %input.manifest_digest, "the hold was never told of a pushed manifest");
        });
    }

    async fn tell(&self, hold: &Did, owner: &Did, input: &NotifyManifestInput) -> bool {
        match tokio::time::timeout(PATIENCE, self.holds.call::<NotifyManifest>(hold, owner, input)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%hold, digest = %input.manifest_digest, %error, "the hold refused to be told of a manifest");
                false
            }
            Err(_) => {
                tracing::warn!(%hold, digest = %input.manifest_digest, "the hold took too long to be told of a manifest");
                false
            }
        }
    }
}
