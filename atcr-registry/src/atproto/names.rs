use atcr_core::StoreError;
use atcr_core::did_resolver::{IdentityResolver, ResolveError};
use atcr_core::oci::RepositoryName;
use atcr_core::syntax::{Did, Handle};

/// A repository as the AT Protocol knows it: whose it is, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnedRepository {
    /// The owner.
    pub(super) owner: Did,
    /// The name without the owner: the `repository` field of the records.
    pub(super) name: RepositoryName,
}

/// A repository's name as clients have it: below the owner's handle, or their DID where there is none.
pub(super) fn of_owner(did: &Did, handle: Option<&Handle>, name: &RepositoryName) -> Option<RepositoryName> {
    match handle {
        Some(handle) => format!("{handle}/{name}").parse().ok(),
        None => format!("{}/{name}", did.to_hyphenated()).parse().ok(),
    }
}

/// Finds the owner behind a repository's name.
pub(super) async fn resolve(
    identities: &IdentityResolver,
    repository: &RepositoryName,
) -> Result<OwnedRepository, StoreError> {
    let Some((owner, name)) = repository.owner() else {
        return Err(StoreError::RepositoryUnknown(format!(
            "{repository} names no owner; a repository is called <handle>/<name> here, such as alice.bsky.social/app"
        )));
    };
    match identities.resolve_did(&owner).await {
        Ok(did) => Ok(OwnedRepository { owner: did, name }),
        Err(error) => Err(identity_error(error)),
    }
}

/// What it means for a request that an identity could not be resolved.
pub(super) fn identity_error(error: ResolveError) -> StoreError {
    match error {
        ResolveError::NotFound(subject) => StoreError::RepositoryUnknown(format!(
            "there is no account {subject}; check how the name is written"
        )),
        ResolveError::Unavailable { ref subject, .. } => {
            let what = format!("the directory that knows {subject}");
            StoreError::unavailable(what, error)
        }
        other => StoreError::RepositoryUnknown(other.to_string()),
    }
}
