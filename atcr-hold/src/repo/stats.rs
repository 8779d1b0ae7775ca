use atcr_core::methods::Operation;
use atcr_core::oci::RepositoryName;
use atcr_core::records::{StatsRecord, stats_rkey};
use atcr_core::syntax::Did;
use atcr_pds::Write;

use super::HoldRepo;
use crate::HoldError;

impl HoldRepo {
    /// The write that counts a push or a pull. `None` for a pull of a repository that nobody has pushed here: any
    /// account could fill the hold's repo with those.
    pub(super) async fn count(
        &self,
        owner: &Did,
        repository: &RepositoryName,
        operation: &Operation,
    ) -> Result<Option<Write>, HoldError> {
        let rkey = stats_rkey(owner, repository);
        let known: Option<StatsRecord> = self.get(&rkey).await?;
        let pull = *operation == Operation::Pull;
        if pull && known.is_none() {
            return Ok(None);
        }
        let now = self.now();
        let mut stats = known.unwrap_or_else(|| StatsRecord {
            owner_did: owner.clone(),
            repository: repository.clone(),
            pull_count: 0,
            push_count: 0,
            last_pull: None,
            last_push: None,
            updated_at: now.clone(),
        });
        if pull {
            stats.pull_count += 1;
            stats.last_pull = Some(now.clone());
        } else {
            stats.push_count += 1;
            stats.last_push = Some(now.clone());
        }
        stats.updated_at = now;
        Ok(Some(Self::put(rkey, &stats)?))
    }

    /// Counts a pull. False when nothing of the repository was ever pushed here.
    pub(crate) async fn pulled(&self, owner: &Did, repository: &RepositoryName) -> Result<bool, HoldError> {
        let _alone = self.alone().await?;
        match self.count(owner, repository, &Operation::Pull).await? {
            Some(write) => {
                self.commit(vec![write]).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
