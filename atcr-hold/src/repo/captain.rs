use atcr_core::records::{CaptainRecord, CrewRecord, Permissions, Role};
use atcr_core::syntax::{Did, RecordKey};

use super::HoldRepo;
use crate::HoldError;

/// What the configuration says about the hold.
#[derive(Debug, Clone)]
pub(crate) struct CaptainSettings {
    pub(crate) owner: Did,
    pub(crate) public: bool,
    pub(crate) allow_all_crew: bool,
    pub(crate) region: Option<String>,
}

/// The key of the captain record.
pub(crate) fn captain_rkey() -> RecordKey {
    "self".parse().expect("`self` is a record key")
}

impl HoldRepo {
    /// Brings the captain record in line with the configuration, and gives the owner a crew record when there is
    /// none: one commit, or none when nothing changed. What the configuration does not say stays as it is.
    pub(crate) async fn sync_captain(&self, settings: &CaptainSettings) -> Result<(), HoldError> {
        let _alone = self.alone().await?;
        let mut writes = Vec::new();
        let known: Option<CaptainRecord> = self.get(&captain_rkey()).await?;
        let mut captain = known.clone().unwrap_or_else(|| CaptainRecord {
            owner: settings.owner.clone(),
            public: settings.public,
            allow_all_crew: settings.allow_all_crew,
            enable_bluesky_posts: false,
            deployed_at: self.now(),
            region: None,
            successor: None,
            provider: None,
        });
        captain.owner = settings.owner.clone();
        captain.public = settings.public;
        captain.allow_all_crew = settings.allow_all_crew;
        if let Some(region) = &settings.region {
            captain.region = Some(region.clone());
        }
        if known.as_ref() != Some(&captain) {
            writes.push(Self::put(captain_rkey(), &captain)?);
        }
        let crew: Vec<(RecordKey, CrewRecord)> = self.all().await?;
        if !crew.iter().any(|(_, crew)| crew.member == settings.owner) {
            let owner = CrewRecord {
                member: settings.owner.clone(),
                role: Role::Admin,
                permissions: Permissions::all(),
                tier: None,
                added_at: self.now(),
            };
            writes.push(Self::put(owner.rkey(), &owner)?);
        }
        if !writes.is_empty() {
            self.commit(writes).await?;
        }
        Ok(())
    }
}
