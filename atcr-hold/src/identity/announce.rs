use atcr_core::crypto::PublicKey;
use atcr_pds::repo::car::{CarLimits, read_slice};
use atcr_pds::repo::{Commit, Head, NewEvent};
use atcr_pds::{RepoError, Repos};
use sqlx::SqlitePool;

use super::HoldIdentity;
use crate::{HoldError, database};

/// The document that followers were told of.
const ANNOUNCED: &str = "announced_document";

/// Whether the newest commit was signed with another key than this.
pub(crate) async fn key_was_replaced(
    repos: &Repos,
    identity: &HoldIdentity,
    head: Head,
    key: &PublicKey,
) -> Result<bool, HoldError> {
    let car = repos.get_blocks(identity.did(), &[head.cid]).await?;
    let car = read_slice(car, CarLimits::default()).map_err(RepoError::from)?;
    let commit = Commit::decode(car.block(&head.cid).map_err(RepoError::from)?).map_err(RepoError::from)?;
    Ok(commit.verify(identity.did(), key).is_err())
}

/// Tells followers when the document or the signing key is another than at the last time. It is noted only after it
/// was told, so that a process that dies in between tells it again.
///
/// A repo that was just made has told its document already.
pub(crate) async fn announce(
    repos: &Repos,
    pool: &SqlitePool,
    identity: &HoldIdentity,
    key: &PublicKey,
    new_repo: bool,
) -> Result<(), HoldError> {
    let document = identity.document().to_string();
    let head = repos.info(identity.did()).await?.map(|info| info.head);
    let replaced = match head {
        Some(head) => key_was_replaced(repos, identity, head, key).await?,
        None => false,
    };
    let told = database::meta(pool, ANNOUNCED).await?;
    if !replaced && told.as_ref() == Some(&document) {
        return Ok(());
    }
    if !new_repo {
        let (did, handle) = (identity.did().clone(), identity.handle().cloned());
        repos.append_event(NewEvent::Identity { did, handle }).await?;
    }
    if replaced {
        // A commit that the new key verifies: the specification asks for one after each rotation.
        repos.resign(identity.did()).await?;
        tracing::info!("the signing key was replaced; the repo is signed with the new one");
    }
    Ok(database::set_meta(pool, ANNOUNCED, &document).await?)
}
