//! Who may do what in a repository.

mod namespace;

use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::Principal;
use atcr_core::authorizer::Action;
use atcr_core::did_resolver::ResolveError;
use atcr_core::oci::RepositoryName;

pub use namespace::NamespacePolicy;

/// Decides which actions a caller may be given in a repository.
#[async_trait]
pub trait RepositoryPolicy: Debug + Send + Sync + 'static {
    /// Those of the `asked` actions that the caller may do, in their order. Fewer than asked is not an error, and
    /// neither is none.
    async fn actions(
        &self,
        principal: &Principal,
        repository: &RepositoryName,
        asked: &[Action],
    ) -> Result<Vec<Action>, PolicyError>;

    /// Why a caller may not do `action`, and what to do instead, for the person at the client. Called only after
    /// [`RepositoryPolicy::actions`] has left it out.
    async fn refusal(&self, principal: &Principal, repository: &RepositoryName, action: Action) -> String {
        format!("{principal} may not {action} in {repository}")
    }
}

/// Why it cannot be decided.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// An identity cannot be looked up at the moment.
    #[error("it cannot be found out at the moment whose repository this is; try again in a minute")]
    Unavailable(#[source] ResolveError),
}
