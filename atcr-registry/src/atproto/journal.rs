use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::syntax::{Did, Nsid, RecordKey, Tid};
use serde::Deserialize;
use serde_json::Value;

/// Hears what this registry has written to somebody's repo, before the write is acknowledged.
#[async_trait]
pub(crate) trait Journal: Debug + Send + Sync {
    /// The commit is durable at the owner's PDS.
    async fn wrote(&self, owner: &Did, commit: Written);
}

/// A commit that was made here.
#[derive(Debug)]
#[cfg_attr(not(feature = "index"), expect(dead_code, reason = "only an index keeps a journal"))]
pub(crate) struct Written {
    /// Its revision.
    pub(crate) rev: Tid,
    /// What became of which record: the CID and the value now, or nothing.
    pub(crate) records: Vec<(Nsid, RecordKey, Option<WrittenRecord>)>,
}

/// The CID of a record, and the record.
pub(crate) type WrittenRecord = (String, Value);

impl Written {
    /// From the writes of `com.atproto.repo.applyWrites` and its answer; `None` when that says no commit.
    pub(super) fn read(writes: Vec<Value>, answer: &Value) -> Option<Self> {
        #[derive(Deserialize)]
        struct Write {
            collection: Nsid,
            rkey: RecordKey,
            value: Option<Value>,
        }
        let rev = answer["commit"]["rev"].as_str()?.parse().ok()?;
        let results = answer["results"].as_array()?;
        let mut records = Vec::with_capacity(writes.len());
        for (write, result) in writes.into_iter().zip(results) {
            let Write { collection, rkey, value } = serde_json::from_value(write).ok()?;
            let now = match value {
                Some(value) => Some((result["cid"].as_str()?.to_owned(), value)),
                None => None,
            };
            records.push((collection, rkey, now));
        }
        Some(Self { rev, records })
    }
}
