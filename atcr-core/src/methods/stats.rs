use serde::{Deserialize, Serialize};

use super::{Nothing, method};
use crate::oci::RepositoryName;
use crate::syntax::{Datetime, Did};

method! {
    /// Sets the counters of a repository. Withdrawn in March 2026; it moved old counters into holds.
    SetStats, "io.atcr.hold.setStats", Procedure,
    (Nothing, SetStatsInput) -> SetStatsOutput, [INVALID_OWNER, INVALID_REPOSITORY]
}

/// Input of [`SetStats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetStatsInput {
    /// The owner of the repository.
    pub owner_did: Did,
    /// The repository, without its owner.
    pub repository: RepositoryName,
    /// Pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_count: Option<u64>,
    /// Pushes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_count: Option<u64>,
    /// The last pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pull: Option<Datetime>,
    /// The last push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_push: Option<Datetime>,
}

/// Output of [`SetStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetStatsOutput {
    /// Whether it was done.
    pub success: bool,
}
