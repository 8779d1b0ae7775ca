use super::lenient;
use super::typed::record;
use crate::oci::RepositoryName;
use crate::syntax::{Datetime, Did, RecordKey};

record! {
    "io.atcr.hold.stats";
    /// How often a repository was pulled from and pushed to a hold, in the hold's repo under
    /// [`stats_rkey`](super::stats_rkey). An AppView adds up those of all holds.
    pub struct StatsRecord {
        /// The owner of the repository.
        pub owner_did: Did,
        /// The repository, without its owner.
        pub repository: RepositoryName,
        /// Pulls so far.
        #[serde(default)]
        pub pull_count: u64,
        /// Pushes so far.
        #[serde(default)]
        pub push_count: u64,
        /// The last pull.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub last_pull: Option<Datetime>,
        /// The last push.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub last_push: Option<Datetime>,
        /// When the record was last written.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub updated_at: Datetime,
    }
}

impl StatsRecord {
    /// The key of the record.
    pub fn rkey(&self) -> RecordKey {
        super::stats_rkey(&self.owner_did, &self.repository)
    }
}
