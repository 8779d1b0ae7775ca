use std::collections::HashMap;
use std::sync::Arc;

use atcr_core::AUDIT;
use atcr_core::records::{CaptainRecord, CrewRecord, Permissions, Record, Role};
use atcr_core::syntax::{Did, RecordKey};
use tokio::sync::{Mutex, watch};

use super::{OldCrew, Standing, Tier, Tiers};
use crate::HoldError;
use crate::repo::{Changes, HoldRepo, captain_rkey};

/// The crew as the repo has it. It is kept in memory and follows the repo's events, so that a record that somebody
/// wrote or removed a moment ago counts for the next request.
#[derive(Clone)]
pub(crate) struct Roster {
    repo: HoldRepo,
    owner: Did,
    tiers: Arc<Tiers>,
    newest: watch::Receiver<u64>,
    known: Arc<Mutex<Known>>,
    old_crew: Option<OldCrew>,
}

#[derive(Default)]
struct Known {
    /// How far in the events; `None` before the first look.
    seq: Option<u64>,
    captain: Option<CaptainRecord>,
    crew: HashMap<RecordKey, CrewRecord>,
    /// A member may have several records: upstream and we choose keys differently.
    keys: HashMap<Did, Vec<RecordKey>>,
}

/// The outcome of a request to enrol.
pub(crate) struct Enrolment {
    /// False when there was a record before.
    pub(crate) created: bool,
    /// The key of the record.
    pub(crate) rkey: RecordKey,
}

impl Known {
    fn set(&mut self, rkey: RecordKey, record: Option<CrewRecord>) {
        if let Some(old) = self.crew.remove(&rkey)
            && let Some(keys) = self.keys.get_mut(&old.member)
        {
            keys.retain(|key| *key != rkey);
            if keys.is_empty() {
                self.keys.remove(&old.member);
            }
        }
        if let Some(record) = record {
            self.keys.entry(record.member.clone()).or_default().push(rkey.clone());
            self.crew.insert(rkey, record);
        }
    }

    fn permissions(&self, member: &Did) -> Option<Permissions> {
        let records = self.keys.get(member)?.iter().filter_map(|key| self.crew.get(key));
        Some(records.flat_map(|record| record.permissions.iter().cloned()).collect())
    }
}

impl Roster {
    pub(crate) fn new(repo: HoldRepo, owner: Did, tiers: Tiers, old_crew: Option<OldCrew>) -> Self {
        let newest = repo.repos().subscribe();
        Self { repo, owner, tiers: Arc::new(tiers), newest, known: Arc::default(), old_crew }
    }

    /// Follows the repo up to now. When that fails nobody gets in on what was true before.
    async fn refresh(&self, known: &mut Known) -> Result<(), HoldError> {
        self.repo.notice().await?;
        self.follow(known).await
    }

    /// Follows the repo as far as this process has noticed.
    async fn follow(&self, known: &mut Known) -> Result<(), HoldError> {
        let newest = *self.newest.borrow();
        let (changes, seq) = match known.seq {
            Some(seq) if seq == newest => return Ok(()),
            Some(seq) => Changes::after(self.repo.repos(), seq, newest).await?,
            None => (Changes::Everything, newest),
        };
        if changes.of(&CaptainRecord::collection()).is_none_or(|keys| !keys.is_empty()) {
            known.captain = self.repo.get(&captain_rkey()).await?;
        }
        if let Some(keys) = changes.of(&CrewRecord::collection()) {
            for rkey in keys {
                let record = self.repo.get(&rkey).await?;
                known.set(rkey, record);
            }
        } else {
            known.crew.clear();
            known.keys.clear();
            for (rkey, record) in self.repo.all().await? {
                known.set(rkey, Some(record));
            }
        }
        known.seq = Some(seq);
        Ok(())
    }

    fn standing_in(&self, known: &Known, caller: &Did) -> Standing {
        if *caller == self.owner {
            return Standing::Captain;
        }
        known.permissions(caller).map_or(Standing::Stranger, Standing::Crew)
    }

    /// What an account is to the hold.
    pub(crate) async fn standing(&self, caller: Option<&Did>) -> Result<Standing, HoldError> {
        let Some(caller) = caller else { return Ok(Standing::Anonymous) };
        let standing = {
            let mut known = self.known.lock().await;
            self.refresh(&mut known).await?;
            self.standing_in(&known, caller)
        };
        // What the hold's own repo says prevails.
        if standing == Standing::Stranger
            && let Some(old_crew) = &self.old_crew
            && let Some(permissions) = old_crew.permissions(caller).await
        {
            return Ok(Standing::Crew(permissions));
        }
        Ok(standing)
    }

    /// Whether anyone may read. It is asked at every read, so that what another process wrote may be a second old.
    pub(crate) async fn public(&self) -> Result<bool, HoldError> {
        self.repo.notice_lately().await?;
        let mut known = self.known.lock().await;
        self.follow(&mut known).await?;
        Ok(known.captain.as_ref().is_some_and(|captain| captain.public))
    }

    /// Whether any account may enrol.
    pub(crate) async fn open_to_all(&self) -> Result<bool, HoldError> {
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await?;
        Ok(known.captain.as_ref().is_some_and(|captain| captain.allow_all_crew))
    }

    /// The owner.
    pub(crate) fn owner(&self) -> &Did {
        &self.owner
    }

    /// The tiers.
    pub(crate) fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// The tier of a member. `None`: they have no limit, since there are no tiers, or since they are the owner.
    pub(crate) async fn tier(&self, member: &Did) -> Result<Option<&Tier>, HoldError> {
        if *member == self.owner || self.tiers.all().is_empty() {
            return Ok(None);
        }
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await?;
        let keys = known.keys.get(member).into_iter().flatten();
        let named = keys.filter_map(|key| known.crew.get(key)).find_map(|record| record.tier.as_deref());
        Ok(self.tiers.of(named))
    }

    /// How many bytes a member may store; `None` is any number.
    pub(crate) async fn allowed(&self, member: &Did) -> Result<Option<u64>, HoldError> {
        Ok(self.tier(member).await?.and_then(|tier| tier.limit))
    }

    /// Writes a tier into the records of a member. False when there is none.
    pub(crate) async fn set_tier(&self, member: &Did, tier: &Tier) -> Result<bool, HoldError> {
        // Held until the records are written: nothing that was changed meanwhile is overwritten.
        let _alone = self.repo.alone().await?;
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await?;
        let Some(keys) = known.keys.get(member) else { return Ok(false) };
        let mut writes = Vec::new();
        for (key, record) in keys.iter().filter_map(|key| Some((key, known.crew.get(key)?))) {
            if record.tier.as_ref() != Some(&tier.name) {
                let record = CrewRecord { tier: Some(tier.name.clone()), ..record.clone() };
                writes.push(HoldRepo::put(key.clone(), &record)?);
            }
        }
        if !writes.is_empty() {
            self.repo.commit(writes).await?;
        }
        Ok(true)
    }

    /// What somebody is who enrols without asking for anything.
    pub(crate) fn member() -> (Role, Permissions) {
        (Role::Member, Permissions::member())
    }

    /// Writes a crew record for an account that has none. The caller has made sure that it may enrol.
    pub(crate) async fn enrol(
        &self,
        member: &Did,
        role: Role,
        permissions: Permissions,
    ) -> Result<Enrolment, HoldError> {
        // Held until the record is written: two requests at once make one record.
        let _alone = self.repo.alone().await?;
        let mut known = self.known.lock().await;
        self.refresh(&mut known).await?;
        if let Some(rkey) = known.keys.get(member).and_then(|keys| keys.first()) {
            return Ok(Enrolment { created: false, rkey: rkey.clone() });
        }
        let record =
            CrewRecord { member: member.clone(), role, permissions, tier: None, added_at: self.repo.now() };
        let rkey = record.rkey();
        self.repo.commit(vec![HoldRepo::put(rkey.clone(), &record)?]).await?;
        tracing::info!(target: AUDIT, event = "crew_enrolled", did = %member, role = record.role.as_str());
        Ok(Enrolment { created: true, rkey })
    }
}
