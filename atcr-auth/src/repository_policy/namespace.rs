use async_trait::async_trait;
use atcr_core::authorizer::Action;
use atcr_core::did_resolver::{IdentityResolver, ResolveError};
use atcr_core::oci::RepositoryName;
use atcr_core::syntax::AtIdentifier;
use atcr_core::{Account, Principal};

use super::{PolicyError, RepositoryPolicy};

/// Everybody may pull everything; an account may push and delete under its own handle and DID, and nowhere else.
#[derive(Debug, Clone)]
pub struct NamespacePolicy {
    identities: IdentityResolver,
}

/// Whose a namespace is, seen from a caller.
enum Ownership {
    Own,
    Other,
    /// The name begins with no identity.
    Nobody,
    /// The name begins with a handle or DID that does not resolve.
    Unknown,
}

impl NamespacePolicy {
    /// A policy that looks handles up with `identities`.
    pub fn new(identities: IdentityResolver) -> Self {
        Self { identities }
    }

    /// Asks nobody when the name is the caller's DID or their verified handle.
    async fn ownership(
        &self,
        account: &Account,
        repository: &RepositoryName,
    ) -> Result<Ownership, PolicyError> {
        let of = |own| if own { Ownership::Own } else { Ownership::Other };
        match repository.owner() {
            None => Ok(Ownership::Nobody),
            Some((AtIdentifier::Did(did), _)) => Ok(of(did == account.did)),
            Some((AtIdentifier::Handle(handle), _)) if account.handle.as_ref() == Some(&handle) => {
                Ok(Ownership::Own)
            }
            Some((handle, _)) => match self.identities.resolve_did(&handle).await {
                Ok(did) => Ok(of(did == account.did)),
                Err(error @ ResolveError::Unavailable { .. }) => Err(PolicyError::Unavailable(error)),
                Err(_) => Ok(Ownership::Unknown),
            },
        }
    }
}

#[async_trait]
impl RepositoryPolicy for NamespacePolicy {
    async fn actions(
        &self,
        principal: &Principal,
        repository: &RepositoryName,
        asked: &[Action],
    ) -> Result<Vec<Action>, PolicyError> {
        let writes = asked.iter().any(|action| *action != Action::Pull);
        let own = match principal {
            Principal::Account(account) if writes => {
                matches!(self.ownership(account, repository).await?, Ownership::Own)
            }
            _ => false,
        };
        Ok(asked.iter().copied().filter(|action| own || *action == Action::Pull).collect())
    }

    async fn refusal(&self, principal: &Principal, repository: &RepositoryName, action: Action) -> String {
        let Principal::Account(account) = principal else {
            return format!("only its owner may {action} in {repository}; sign in with docker login");
        };
        let own = account.handle.as_ref().map_or_else(|| account.did.to_hyphenated(), ToString::to_string);
        let instead = format!("you are signed in as {principal}; use a name that begins with {own}/");
        let owner = repository.owner().map(|(owner, _)| owner.to_string()).unwrap_or_default();
        match self.ownership(account, repository).await {
            Ok(Ownership::Nobody) => {
                format!("{repository} does not begin with the handle or DID of an account; {instead}")
            }
            Ok(Ownership::Unknown) => format!("there is no account {owner}; {instead}"),
            _ => format!("{repository} belongs to {owner}, who alone may {action} there; {instead}"),
        }
    }
}
