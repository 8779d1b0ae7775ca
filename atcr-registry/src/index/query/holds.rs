//! Holds, their crews, and the settings that choose one.

use atcr_core::syntax::Did;

use super::row::{optional, parsed};
use super::{Captain, CrewMember, HoldChoice, HoldRelation, MOST, Profile};
use crate::index::database::{all, first};
use crate::index::{Index, IndexError};

impl Index {
    /// Somebody's settings; `None` where there are none.
    pub async fn profile(&self, did: &Did) -> Result<Option<Profile>, IndexError> {
        let row: Option<(Option<String>, i64, Option<String>, Option<String>)> = first!(
            &self.database().read,
            "SELECT p.default_hold, p.auto_remove_untagged, p.oci_client, p.registry_domain \
             FROM profiles p JOIN repos o ON o.id = p.repo WHERE o.did = $1 AND p.rkey = 'self'",
            did.as_str()
        );
        Ok(row.map(|(hold, auto_remove, oci_client, registry_domain)| Profile {
            default_hold: optional(hold),
            auto_remove_untagged: auto_remove != 0,
            oci_client,
            registry_domain,
        }))
    }

    /// Who owns a hold and how it is open, as the hold itself says.
    pub async fn captain(&self, hold: &Did) -> Result<Option<Captain>, IndexError> {
        let row: Option<(String, i64, i64, Option<String>, Option<String>)> = first!(
            &self.database().read,
            "SELECT c.owner, c.public, c.allow_all_crew, c.region, c.successor FROM captains c \
             JOIN repos h ON h.id = c.repo WHERE h.did = $1 AND h.status = 'active' AND c.rkey = 'self'",
            hold.as_str()
        );
        row.map(captain).transpose()
    }

    /// The crew of a hold, in the order of their DIDs: at most 1,000.
    pub async fn crew(&self, hold: &Did) -> Result<Vec<CrewMember>, IndexError> {
        let rows: Vec<(String, Option<String>, String, String, Option<String>)> = all!(
            &self.database().read,
            "SELECT c.member, m.handle, c.role, c.permissions, c.tier FROM crew c JOIN repos h ON h.id = c.repo \
             LEFT JOIN repos m ON m.did = c.member WHERE h.did = $1 AND h.status = 'active' ORDER BY c.member LIMIT $2",
            hold.as_str(),
            MOST
        );
        let member = |(member, handle, role, permissions, tier): (String, _, _, String, _)| {
            Ok(CrewMember {
                member: parsed(&member)?,
                handle: optional(handle),
                role,
                permissions: serde_json::from_str(&permissions).unwrap_or_default(),
                tier,
            })
        };
        rows.into_iter().map(member).collect()
    }

    /// The holds that accounts use: that their manifests or settings name, and that say that they are holds. At most
    /// `limit`, those of the most accounts first.
    pub async fn holds_in_use(&self, limit: usize) -> Result<Vec<Did>, IndexError> {
        let rows: Vec<(String,)> = all!(
            &self.database().read,
            "SELECT hold FROM \
             (SELECT hold, count(*) AS used FROM (SELECT DISTINCT repo, hold FROM manifests WHERE hold IS NOT NULL) AS m \
             GROUP BY hold UNION ALL \
             SELECT default_hold, count(*) FROM profiles WHERE default_hold IS NOT NULL GROUP BY default_hold UNION ALL \
             SELECT h.did, 0 FROM captains c JOIN repos h ON h.id = c.repo WHERE h.status = 'active' AND c.rkey = 'self') \
             AS named GROUP BY hold ORDER BY sum(used) DESC, hold LIMIT $1",
            i64::try_from(limit).unwrap_or(i64::MAX)
        );
        rows.into_iter().map(|(hold,)| parsed(&hold)).collect()
    }

    /// The holds that an account can push to: its own, those whose crew it is of, and those that anybody may join. At
    /// most 1,000, the closest first.
    pub async fn holds_for(&self, did: &Did) -> Result<Vec<HoldChoice>, IndexError> {
        type Row = (String, i64, String, i64, i64, Option<String>, Option<String>);
        let rows: Vec<Row> = all!(
            &self.database().read,
            "SELECT hold, relation, owner, public, allow_all_crew, region, successor FROM \
             (SELECT h.did AS hold, CASE WHEN c.owner = $1 THEN 0 \
             WHEN EXISTS (SELECT 1 FROM crew w WHERE w.repo = c.repo AND w.member = $1) THEN 1 \
             WHEN c.allow_all_crew <> 0 THEN 2 ELSE 3 END AS relation, \
             c.owner AS owner, c.public AS public, c.allow_all_crew AS allow_all_crew, c.region AS region, \
             c.successor AS successor FROM captains c JOIN repos h ON h.id = c.repo \
             WHERE h.status = 'active' AND c.rkey = 'self') AS holds WHERE relation < 3 ORDER BY relation, hold LIMIT $2",
            did.as_str(),
            MOST
        );
        let choice = |(hold, relation, owner, public, all_crew, region, successor): Row| {
            let relation = match relation {
                0 => HoldRelation::Captain,
                1 => HoldRelation::Crew,
                _ => HoldRelation::Open,
            };
            let captain = captain((owner, public, all_crew, region, successor))?;
            Ok(HoldChoice { hold: parsed(&hold)?, relation, captain })
        };
        rows.into_iter().map(choice).collect()
    }
}

fn captain(row: (String, i64, i64, Option<String>, Option<String>)) -> Result<Captain, IndexError> {
    let (owner, public, allow_all_crew, region, successor) = row;
    Ok(Captain {
        owner: parsed(&owner)?,
        public: public != 0,
        allow_all_crew: allow_all_crew != 0,
        region,
        successor: optional(successor),
    })
}
