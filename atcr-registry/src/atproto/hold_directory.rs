use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use url::Url;

/// Knows about holds and what is in them without asking anybody.
#[async_trait]
pub(crate) trait HoldDirectory: Debug + Send + Sync {
    /// The hold in an account's settings, if there is one; `None` when that is not known.
    async fn chosen_hold(&self, owner: &Did) -> Option<Option<Did>>;

    /// The hold that a hold has moved to, however often.
    async fn successor(&self, hold: &Did) -> Option<Did>;

    /// The holds that may have a blob, the likeliest first; none when nothing is known.
    async fn holds_of(&self, owner: &Did, digest: &Digest) -> Vec<Did>;

    /// Where a hold answers that is up, has the blob and gives it to anybody.
    async fn open_hold(&self, owner: &Did, digest: &Digest) -> Option<(Did, Url)>;
}
