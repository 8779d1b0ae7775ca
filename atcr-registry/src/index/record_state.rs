//! At which revision each record was last written, as far as a transaction has to do with it.

use std::collections::BTreeMap;

use super::IndexError;
use super::apply::Writing;
use super::pending::Place;
use super::rows;

/// What is known of a record: the revision it was last written at, and its CID unless it is gone.
pub(super) type Known = Option<(i64, Option<Vec<u8>>)>;

/// The records that were looked at, and whether what is known of them must still be written.
#[derive(Default)]
pub(super) struct RecordStates(BTreeMap<Place, (Known, bool)>);

impl RecordStates {
    pub(super) fn set(&mut self, place: Place, rev: i64, cid: Option<Vec<u8>>) {
        self.0.insert(place, (Some((rev, cid)), true));
    }

    /// The records of a repo are removed.
    pub(super) fn forget(&mut self, repo: i64) {
        self.0.retain(|place, _| place.0 != repo);
    }
}

impl Writing {
    /// Learns what is known of records, many at a time.
    pub(super) async fn recall(&mut self, mut places: Vec<Place>) -> Result<(), IndexError> {
        places.retain(|place| !self.records.0.contains_key(place));
        places.sort_unstable();
        places.dedup();
        let select = "WITH asked (repo, collection, rkey) AS (VALUES {rows}) \
             SELECT r.repo, r.collection, r.rkey, r.rev, r.cid FROM asked CROSS JOIN records r \
             WHERE r.repo = asked.repo AND r.collection = asked.collection AND r.rkey = asked.rkey";
        let found: Vec<(i64, i64, String, i64, Option<Vec<u8>>)> =
            rows::read(&mut self.tx, self.dialect, (select, 3), &places, |query, place| {
                query.bind(place.0).bind(place.1).bind(place.2.as_str())
            })
            .await?;
        self.records.0.extend(places.into_iter().map(|place| (place, (None, false))));
        for (repo, collection, rkey, rev, cid) in found {
            self.records.0.insert((repo, collection, rkey), (Some((rev, cid)), false));
        }
        Ok(())
    }

    pub(super) async fn known(&mut self, place: &Place) -> Result<Known, IndexError> {
        if !self.records.0.contains_key(place) {
            self.recall(vec![place.clone()]).await?;
        }
        Ok(self.records.0.get(place).and_then(|(known, _)| known.clone()))
    }

    pub(super) async fn save_records(&mut self) -> Result<(), IndexError> {
        let records = std::mem::take(&mut self.records.0);
        let written: Vec<_> = records
            .iter()
            .filter_map(|(place, (known, is_new))| {
                known.as_ref().filter(|_| *is_new).map(|known| (place, known))
            })
            .collect();
        let insert = "INSERT INTO records (repo, collection, rkey, rev, cid) VALUES {rows} \
             ON CONFLICT (repo, collection, rkey) DO UPDATE SET rev = excluded.rev, cid = excluded.cid";
        rows::write(&mut self.tx, self.dialect, (insert, 5), &written, |query, (place, (rev, cid))| {
            query.bind(place.0).bind(place.1).bind(place.2.as_str()).bind(*rev).bind(cid.as_deref())
        })
        .await
    }
}
