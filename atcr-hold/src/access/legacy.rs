//! The crew of a hold of 2025: records in the repo of its owner, which are read and never written.
//!
//! Whatever cannot be read, or cannot be known at the moment, gives no rights.

use std::sync::Arc;
use std::time::Duration;

use atcr_auth::Clock;
use atcr_core::Source;
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::egress::Egress;
use atcr_core::records::{
    HoldRecord, LegacyCrewRecord, LegacyMember, Permission, Permissions, Record as _, Role,
};
use atcr_core::syntax::{AtIdentifier, AtUri, Did, Handle};
use atcr_core::xrpc::XrpcClient;
use moka::future::Cache;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// How long the records are believed before the owner's PDS is asked again.
const FRESH: Duration = Duration::from_secs(60);
/// Pages of 100 records that are read of a collection.
const MAX_PAGES: usize = 100;

/// How the crew is read that stands in the owner's repo, in the shape of 2025.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LegacyCrew {
    /// Finds the owner's PDS, and the handles of callers.
    pub identities: IdentityResolver,
    /// The way to the owner's PDS.
    pub egress: Egress,
}

impl LegacyCrew {
    /// Reads it with these.
    pub fn new(identities: IdentityResolver, egress: Egress) -> Self {
        Self { identities, egress }
    }
}

/// The old crew of one hold.
#[derive(Clone)]
pub(crate) struct OldCrew {
    source: LegacyCrew,
    owner: Did,
    hold: Did,
    url: Url,
    clock: Clock,
    known: Cache<(), Arc<Vec<LegacyCrewRecord>>>,
}

#[derive(Deserialize)]
struct Page {
    records: Vec<Found>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    uri: AtUri,
    value: serde_json::Value,
}

impl OldCrew {
    pub(crate) fn new(source: LegacyCrew, owner: Did, hold: Did, url: Url, clock: Clock) -> Self {
        let known = Cache::builder().max_capacity(1).time_to_live(FRESH).build();
        Self { source, owner, hold, url, clock, known }
    }

    /// What somebody may do by these records; `None` when they name them nowhere.
    pub(crate) async fn permissions(&self, member: &Did) -> Option<Permissions> {
        let records = match self.known.try_get_with((), self.read()).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(%error, owner = %self.owner, "the crew in the owner's repo cannot be read");
                return None;
            }
        };
        let asks = |record: &LegacyCrewRecord| matches!(record.member(), Some(LegacyMember::Pattern(_)));
        let handle = if records.iter().any(asks) { self.handle(member).await } else { None };
        granted(&records, member, handle.as_ref(), self.clock.unix())
    }

    /// The handle that an account has for certain.
    async fn handle(&self, member: &Did) -> Option<Handle> {
        let identity = self.source.identities.resolve(&AtIdentifier::Did(member.clone())).await.ok()?;
        (identity.handle != Handle::invalid()).then_some(identity.handle)
    }

    /// The records that are this hold's.
    async fn read(&self) -> Result<Arc<Vec<LegacyCrewRecord>>, Source> {
        let pds = self.source.identities.pds(&self.owner).await?;
        let client = XrpcClient::new(self.source.egress.clone(), pds);
        let holds = self.list::<HoldRecord>(&client, HoldRecord::collection().as_str()).await?;
        let ours: Vec<AtUri> = holds
            .into_iter()
            .filter(|(_, hold)| hold.owner == self.owner && self.is_this(hold))
            .map(|(uri, _)| uri)
            .collect();
        if ours.is_empty() {
            return Ok(Arc::default());
        }
        let crew = self.list::<LegacyCrewRecord>(&client, LegacyCrewRecord::collection().as_str()).await?;
        let crew = crew.into_iter().map(|(_, record)| record).filter(|record| ours.contains(&record.hold));
        Ok(Arc::new(crew.collect()))
    }

    fn is_this(&self, hold: &HoldRecord) -> bool {
        hold.did().as_ref() == Some(&self.hold) || hold.endpoint.origin() == self.url.origin()
    }

    /// All records of a collection that can be read as `T`.
    async fn list<T: DeserializeOwned>(
        &self,
        client: &XrpcClient,
        collection: &str,
    ) -> Result<Vec<(AtUri, T)>, Source> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params =
                vec![("repo", self.owner.as_str()), ("collection", collection), ("limit", "100")];
            params.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page = client.query("com.atproto.repo.listRecords", &params).await?;
            let read = |found: Found| Some((found.uri, serde_json::from_value(found.value).ok()?));
            let ended = page.records.is_empty();
            all.extend(page.records.into_iter().filter_map(read));
            match page.cursor {
                Some(next) if !ended => cursor = Some(next),
                _ => return Ok(all),
            }
        }
        Err(format!("{collection} of {} has no end", self.owner).into())
    }
}

/// What these records give to an account whose handle is known for certain, or not.
pub(super) fn granted(
    records: &[LegacyCrewRecord],
    member: &Did,
    handle: Option<&Handle>,
    now: i64,
) -> Option<Permissions> {
    let mut named = false;
    let mut permissions = Vec::new();
    for record in records {
        let expired = record.expires_at.as_ref().is_some_and(|end| end.timestamp().as_second() <= now);
        let meant = match record.member() {
            Some(LegacyMember::Did(did)) => did == member,
            Some(LegacyMember::Pattern(pattern)) => handle.is_some_and(|handle| matches(pattern, handle)),
            None => false,
        };
        if expired || !meant {
            continue;
        }
        named = true;
        match record.role {
            Role::Owner | Role::Write => permissions.extend([Permission::BlobRead, Permission::BlobWrite]),
            Role::Read => permissions.push(Permission::BlobRead),
            // Roles that those holds did not know.
            _ => {}
        }
    }
    named.then(|| permissions.into_iter().collect())
}

/// Whether a handle is one that the pattern means: `*` stands for one character or more. What is no pattern for handles
/// means none.
fn matches(pattern: &str, handle: &Handle) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'*');
    if pattern.is_empty() || pattern.len() > 253 || !pattern.bytes().all(known) || pattern.contains("**") {
        return false;
    }
    let (pattern, handle) = (pattern.to_ascii_lowercase(), handle.as_str().to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| handle.strip_prefix(first)) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        // The star before it stands for something.
        let Some((skipped, _)) = rest.char_indices().nth(1) else { return false };
        let Some(at) = rest[skipped..].find(piece) else { return false };
        rest = &rest[skipped + at + piece.len()..];
    }
    rest.strip_suffix(last).is_some_and(|skipped| !skipped.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_handles_that_it_should_and_no_other() {
        let table = [
            ("*", "alice.example.com", true),
            ("*.example.com", "alice.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "alice.evilexample.com", false),
            ("*.example.com", "alice.example.com.evil.org", false),
            ("alice.*", "alice.example.com", true),
            ("alice.*", "malice.example.com", false),
            ("*.team.*", "alice.team.example.com", true),
            ("*.team.*", "team.example.com", false),
            ("*.team.*", "alice.team2.example.com", false),
            ("ALICE.example.COM", "alice.example.com", true),
            ("alice.example.com", "alice.example.com.org", false),
            ("", "alice.example.com", false),
            ("**", "alice.example.com", false),
            ("alice.[a-z]*.com", "alice.example.com", false),
            ("alice.example.co?", "alice.example.com", false),
        ];
        for (pattern, handle, expected) in table {
            assert_eq!(matches(pattern, &handle.parse().unwrap()), expected, "{pattern} {handle}");
        }
    }
}
