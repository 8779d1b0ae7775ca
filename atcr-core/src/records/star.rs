use serde::{Deserialize, Serialize};

use super::lenient;
use super::typed::record;
use super::{Record, RepoPageRecord};
use crate::oci::RepositoryName;
use crate::syntax::{AtIdentifier, AtUri, Datetime, Did, RecordKey};

record! {
    "io.atcr.sailor.star";
    /// A star, in the repo of whoever gave it. A new one goes under [`star_rkey`](super::star_rkey).
    pub struct StarRecord {
        /// What was starred.
        pub subject: StarSubject,
        /// When.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
    }
}

/// What a star stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StarSubject {
    /// The page of a repository: what is written today.
    Page(AtUri),
    /// The repository itself, in records of 2025.
    Repository {
        /// Its owner.
        did: Did,
        /// Its name.
        repository: RepositoryName,
    },
}

impl StarSubject {
    /// A repository, in today's form.
    pub fn new(owner: &Did, repository: &RepositoryName) -> Self {
        Self::Page(RepoPageRecord::uri(owner, &super::page_rkey(repository)))
    }

    /// The owner and the repository; `None` when the URI is not of a page of a DID.
    pub fn repository(&self) -> Option<(Did, RepositoryName)> {
        match self {
            Self::Repository { did, repository } => Some((did.clone(), repository.clone())),
            Self::Page(uri) => {
                let AtIdentifier::Did(owner) = uri.authority()? else { return None };
                if uri.collection()?.as_str() != RepoPageRecord::NSID {
                    return None;
                }
                let repository = uri.rkey()?.as_str().replace('~', "/").parse().ok()?;
                Some((owner, repository))
            }
        }
    }
}

impl StarRecord {
    /// The key for a new record; `None` when the subject names no repository.
    pub fn rkey(&self) -> Option<RecordKey> {
        let (owner, repository) = self.subject.repository()?;
        Some(super::star_rkey(&owner, &repository))
    }
}
