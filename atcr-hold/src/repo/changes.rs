use atcr_core::syntax::{Nsid, RecordKey};
use atcr_pds::Repos;
use atcr_pds::cbor;
use atcr_pds::repo::{Event, EventKind, RecordPath};
use serde::Deserialize;

use crate::HoldError;

/// Events that are read at once.
const STEP: usize = 200;

/// What happened in the repo since a place in its event stream.
pub(crate) enum Changes {
    /// These records were made, replaced or removed, in no particular order, perhaps more than once.
    Records(Vec<RecordPath>),
    /// More than the events tell: everything has to be read anew.
    Everything,
}

#[derive(Deserialize)]
struct CommitBody {
    ops: Vec<Op>,
}

#[derive(Deserialize)]
struct Op {
    path: String,
}

impl Changes {
    /// The changes behind `seq`, and the place up to which they go. `newest` is the newest sequence number known.
    pub(crate) async fn after(repos: &Repos, seq: u64, newest: u64) -> Result<(Self, u64), HoldError> {
        if seq == newest {
            return Ok((Self::Records(Vec::new()), seq));
        }
        let window = repos.event_window().await?;
        if seq > newest || seq + 1 < *window.start() {
            return Ok((Self::Everything, newest));
        }
        let mut paths = Vec::new();
        let mut at = seq;
        while at < newest {
            let events = repos.events_after(at, STEP).await?;
            let Some(last) = events.last() else { break };
            at = last.seq;
            for event in &events {
                match event.kind {
                    EventKind::Commit => paths.extend(changed(event)?),
                    EventKind::Sync => return Ok((Self::Everything, newest)),
                    EventKind::Identity | EventKind::Account => {}
                }
            }
        }
        Ok((Self::Records(paths), at))
    }

    /// The keys of the changed records of a collection; `None` when everything may have changed.
    pub(crate) fn of(&self, collection: &Nsid) -> Option<Vec<RecordKey>> {
        match self {
            Self::Everything => None,
            Self::Records(paths) => {
                let of = paths.iter().filter(|path| path.collection_str() == collection.as_str());
                Some(of.map(RecordPath::rkey).collect())
            }
        }
    }
}

fn changed(event: &Event) -> Result<Vec<RecordPath>, HoldError> {
    let body: CommitBody = cbor::from_slice(&event.body)?;
    Ok(body.ops.iter().filter_map(|op| op.path.parse().ok()).collect())
}
