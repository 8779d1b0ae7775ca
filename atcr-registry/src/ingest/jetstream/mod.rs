//! Events as Jetstream has them: JSON without proofs, compressed with a dictionary if that is asked for.

mod inflate;

use atcr_core::records::data::parse_cid;
use atcr_core::syntax::{Did, Nsid, RecordKey, Tid};
use serde::Deserialize;
use serde_json::Value;

use super::Inner;
use super::judge::Judged;
use super::verify::hash_of;
use crate::index::{AccountStatus, Collection, Event as IndexEvent, RecordOp, RepoCommit, Since};

pub(super) use inflate::Inflater;

#[derive(Deserialize)]
struct Event {
    did: Did,
    time_us: i64,
    commit: Option<Commit>,
    account: Option<Account>,
}

#[derive(Deserialize)]
struct Commit {
    rev: Tid,
    operation: String,
    collection: Nsid,
    rkey: RecordKey,
    record: Option<Value>,
    cid: Option<String>,
}

#[derive(Deserialize)]
struct Account {
    active: bool,
    status: Option<String>,
}

impl Commit {
    fn op(self) -> Option<RecordOp> {
        let collection = Collection::of(self.collection.as_str())?;
        if self.operation == "delete" {
            return Some(RecordOp::gone(collection, self.rkey));
        }
        let cid = parse_cid(&self.cid?).ok()?;
        Some(RecordOp::written(collection, self.rkey, hash_of(&cid), self.record?))
    }
}

impl Inner {
    /// One event of Jetstream.
    pub(super) async fn jetstream(&self, text: &str) -> Judged {
        let event: Event = match serde_json::from_str(text) {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "an event that cannot be read");
                return Judged::default();
            }
        };
        let did = event.did;
        let is_known = self.known.contains(did.as_str());
        let mut events = Vec::new();
        match (event.commit, event.account) {
            (Some(commit), _) => {
                let rev = commit.rev;
                if let Some(op) = commit.op() {
                    if self.known.insert(did.as_str()) {
                        events.extend(self.identity_event(&did).await);
                    }
                    let (since, data) = (Since::Unknown, None);
                    events.push(IndexEvent::Commit(RepoCommit { did, rev, since, data, ops: vec![op] }));
                }
            }
            (None, Some(account)) if is_known => {
                let status = AccountStatus::parse(account.active, account.status.as_deref());
                events.push(IndexEvent::Account { did, status });
            }
            (None, None) if is_known => events = self.identity_event(&did).await,
            _ => {}
        }
        Judged { seq: Some(event.time_us), events, ..Judged::default() }
    }
}
