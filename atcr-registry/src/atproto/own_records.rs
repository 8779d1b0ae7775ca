use std::sync::Arc;

use atcr_auth::pds_session::{PdsSessions, SessionError};
use atcr_core::StoreError;
use atcr_core::records::BlobRef;
use atcr_core::syntax::{Did, Nsid, RecordKey};
use atcr_core::xrpc::XrpcError;
use bytes::Bytes;
use serde_json::{Value, json};

use super::hold_client::session_error;
use super::journal::{Journal, Written};
use super::pds_reader::{Found, PdsReader};

/// How often a write is tried anew when somebody else wrote to the repo in between.
pub(super) const SWAP_ATTEMPTS: usize = 8;
/// A PDS takes 200 writes in one commit at most.
const WRITES: usize = 100;

/// What becomes of a record: it is given the one that is there, and gives the one that is to be there.
pub type Change<'a> = &'a (dyn Fn(Option<Value>) -> Option<Value> + Send + Sync);

/// Records in people's own repos, written in their name.
///
/// An index that stands in front of the PDSs has taken in what was written before a call here returns.
#[derive(Debug, Clone)]
pub struct OwnRecords {
    reader: PdsReader,
    sessions: Arc<dyn PdsSessions>,
    journal: Option<Arc<dyn Journal>>,
}

/// Why a commit was not made.
pub(super) enum WriteError {
    /// The repo has moved on.
    Swapped,
    Failed(StoreError),
}

impl OwnRecords {
    pub(super) fn new(reader: PdsReader, sessions: Arc<dyn PdsSessions>) -> Self {
        Self { reader, sessions, journal: None }
    }

    /// Tells of every commit that it makes.
    #[cfg(feature = "index")]
    pub(super) fn with_journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    pub(super) fn reader(&self) -> &PdsReader {
        &self.reader
    }

    /// Makes one commit, only upon the commit `swap` where one is named.
    pub(super) async fn write(
        &self,
        owner: &Did,
        writes: Vec<Value>,
        swap: Option<String>,
    ) -> Result<(), WriteError> {
        let noted = self.journal.as_ref().map(|journal| (journal, writes.clone()));
        let mut input = json!({ "repo": owner, "validate": false, "writes": writes });
        if let Some(commit) = swap {
            input["swapCommit"] = commit.into();
        }
        match self.sessions.procedure(owner, "com.atproto.repo.applyWrites", input).await {
            Ok(answer) => {
                if let Some((journal, writes)) = noted
                    && let Some(commit) = Written::read(writes, &answer)
                {
                    journal.wrote(owner, commit).await;
                }
                Ok(())
            }
            Err(error) if error.xrpc().and_then(XrpcError::name) == Some("InvalidSwap") => {
                Err(WriteError::Swapped)
            }
            Err(error) => Err(WriteError::Failed(session_error(error))),
        }
    }

    /// Writes, changes or removes one record of `owner`. `change` may be called several times: when somebody else writes
    /// to the repo in between, it is given what is there then. Nothing is written where nothing changes.
    ///
    /// [`StoreError::Unauthenticated`] when the owner is not signed in here any more.
    pub async fn edit(
        &self,
        owner: &Did,
        collection: &Nsid,
        rkey: &RecordKey,
        change: Change<'_>,
    ) -> Result<(), StoreError> {
        for _ in 0..SWAP_ATTEMPTS {
            let commit = self.reader.latest_commit(owner).await?;
            let found: Option<Found<Value>> = self.reader.record(owner, collection, rkey).await?;
            let before = found.map(|found| found.value);
            let exists = before.is_some();
            let after = change(before.clone());
            if before == after {
                return Ok(());
            }
            let write = match after {
                Some(value) => create_or_update(exists, collection.as_str(), rkey, &value),
                None => delete(collection.as_str(), rkey),
            };
            match self.write(owner, vec![write], Some(commit)).await {
                Ok(()) => return Ok(()),
                Err(WriteError::Swapped) => {}
                Err(WriteError::Failed(error)) => return Err(error),
            }
        }
        Err(StoreError::Conflict(format!("your {collection}")))
    }

    /// Uploads a blob to the PDS of `owner`, for a record that names it.
    pub async fn upload(&self, owner: &Did, media_type: &str, bytes: Bytes) -> Result<BlobRef, StoreError> {
        let uploaded = self.try_upload(owner, media_type, bytes).await.map_err(session_error)?;
        uploaded.map_err(|error| StoreError::unavailable("your PDS", error))
    }

    /// The blob that the PDS answered an upload with, if it did.
    pub(super) async fn try_upload(
        &self,
        owner: &Did,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Result<BlobRef, serde_json::Error>, SessionError> {
        let output = self.sessions.upload(owner, "com.atproto.repo.uploadBlob", media_type, bytes).await?;
        Ok(serde_json::from_value(output["blob"].clone()))
    }

    /// Removes all records of `owner` in these collections; says how many. What was removed stays so when a later part
    /// fails.
    pub async fn delete_all(&self, owner: &Did, collections: &[Nsid]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for collection in collections {
            let keys = self.reader.scan(owner, collection, |found: Found<Value>| found.uri.rkey()).await?;
            for part in keys.chunks(WRITES) {
                let writes = part.iter().map(|rkey| delete(collection.as_str(), rkey)).collect();
                match self.write(owner, writes, None).await {
                    Ok(()) => removed += part.len(),
                    Err(WriteError::Swapped) => {
                        return Err(StoreError::Conflict(format!("your {collection}")));
                    }
                    Err(WriteError::Failed(error)) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    /// A blob of any account, from its PDS: at most `limit` bytes.
    pub async fn blob(&self, owner: &Did, cid: &str, limit: usize) -> Result<Bytes, StoreError> {
        self.reader.blob(owner, cid, limit).await
    }
}

pub(super) fn create_or_update(
    exists: bool,
    collection: &str,
    rkey: &RecordKey,
    value: &impl serde::Serialize,
) -> Value {
    let kind = if exists { "update" } else { "create" };
    json!({
        "$type": format!("com.atproto.repo.applyWrites#{kind}"),
        "collection": collection, "rkey": rkey, "value": value,
    })
}

pub(super) fn delete(collection: &str, rkey: &RecordKey) -> Value {
    json!({ "$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": rkey })
}
