use std::fmt;

use crate::oci::RepositoryName;
use crate::syntax::{Did, Handle};

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody who said who they are.
    Anonymous,
    /// An account of the AT Protocol.
    Account(Account),
}

impl Principal {
    /// The caller's DID, unless anonymous.
    pub fn did(&self) -> Option<&Did> {
        match self {
            Self::Anonymous => None,
            Self::Account(account) => Some(&account.did),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Account(Account { handle: Some(handle), .. }) => handle.fmt(f),
            Self::Account(account) => account.did.fmt(f),
        }
    }
}

/// An account that has proven who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its DID.
    pub did: Did,
    /// Its handle, where the proof names it; for messages only.
    pub handle: Option<Handle>,
    /// How it was proven.
    pub proof: Proof,
}

/// How a caller has proven who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// A registry token whose holder signed in with a password of the account's PDS.
    AppPassword,
    /// A registry token whose holder signed in by OAuth.
    OAuth,
    /// A service token of the account's PDS.
    ServiceAuth,
    /// The embedding program vouches for it.
    Trusted,
}

/// A caller at a repository: what every operation of a store is done in the name of.
///
/// By the time a store sees it, an [`Authorizer`](crate::Authorizer) has allowed the operation; the store uses it to
/// act for the caller elsewhere (at their PDS, at a hold) and to know whose content is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The caller.
    pub principal: Principal,
    /// The repository.
    pub repository: RepositoryName,
}

impl Access {
    /// A caller at a repository.
    pub fn new(principal: Principal, repository: RepositoryName) -> Self {
        Self { principal, repository }
    }

    /// Nobody in particular at a repository.
    pub fn anonymous(repository: RepositoryName) -> Self {
        Self::new(Principal::Anonymous, repository)
    }
}
