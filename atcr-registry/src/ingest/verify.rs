//! What an event says about a commit, checked (specification, Sync 1.1).

use atcr_core::crypto::PublicKey;
use atcr_core::syntax::RecordKey;
use atcr_pds::cbor;
use atcr_pds::repo::car::{CarError, CarLimits, CarSlice, read_slice};
use atcr_pds::repo::mst::{MstError, NodeMap, invert};
use atcr_pds::repo::{Commit, CommitError, CommitEvent, RecordPath, RepoOp};
use cid::Cid;
use jiff::Timestamp;

use crate::index::{Collection, RecordOp, RepoCommit, Since};

/// A revision may be this far ahead of our clock, in microseconds, as relays have it.
const AHEAD: i64 = 5 * 60 * 1_000_000;

/// Why an event is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Its blocks cannot be read.
    #[error(transparent)]
    Car(#[from] CarError),
    /// Its commit is not one, or not the account's. The key may have changed: look it up and try again.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Its tree does not hold together.
    #[error(transparent)]
    Tree(#[from] MstError),
    /// It says another thing than its blocks.
    #[error("the event contradicts its blocks: {0}")]
    Contradiction(&'static str),
    /// Its revision lies in the future.
    #[error("the revision lies in the future")]
    Future,
    /// Undoing its changes does not lead to the tree before.
    #[error("its changes do not lead from the tree before to the tree after")]
    Inversion,
}

/// Checks a commit by its account's key and by undoing its changes, and gives the changes of records that an index
/// keeps. Nothing is asked of anybody.
pub fn verify_commit(
    event: &CommitEvent,
    key: &PublicKey,
    now: Timestamp,
) -> Result<RepoCommit, VerifyError> {
    let car = read_slice(event.blocks.clone(), CarLimits::default())?;
    let commit = Commit::decode(car.block(&event.head.cid)?)?;
    commit.verify(&event.did, key)?;
    if commit.rev != event.head.rev {
        return Err(VerifyError::Contradiction("its rev is not the commit's"));
    }
    let micros = i64::try_from(commit.rev.micros()).unwrap_or(i64::MAX);
    if micros > now.as_microsecond().saturating_add(AHEAD) {
        return Err(VerifyError::Future);
    }
    if event.since.is_some_and(|since| since.rev >= commit.rev) {
        return Err(VerifyError::Contradiction("its rev does not come after the one before"));
    }
    check_tree(event, &commit, &car)?;
    let ops = event.ops.iter().filter_map(|op| indexed(op, &car).transpose()).collect::<Result<_, _>>()?;
    let since = match event.since {
        None => Since::Nothing,
        Some(since) => Since::Rev(since.rev, Some(since.data.to_string())),
    };
    Ok(RepoCommit {
        did: event.did.clone(),
        rev: commit.rev,
        since,
        data: Some(commit.data.to_string()),
        ops,
    })
}

fn check_tree(event: &CommitEvent, commit: &Commit, car: &CarSlice) -> Result<(), VerifyError> {
    let mut nodes = NodeMap::default();
    for (cid, block) in &car.blocks {
        let is_record = event.ops.iter().any(|op| op.cid == Some(*cid));
        if *cid != event.head.cid && !is_record {
            // Blocks that nothing refers to are allowed; those that are needed and missing are noticed below.
            nodes.insert_bytes(block.clone()).ok();
        }
    }
    let ops = event.ops.iter().map(|op| (op.path.as_str(), op.prev, op.cid));
    let before = invert(&nodes, &commit.data, ops)?;
    match event.since {
        Some(since) if since.data != before => Err(VerifyError::Inversion),
        // The first commit of a repo begins with nothing.
        None if before != empty_tree() => Err(VerifyError::Inversion),
        _ => Ok(()),
    }
}

/// The root of a tree without keys: `{"e": [], "l": null}`.
fn empty_tree() -> Cid {
    cbor::cid_for_cbor(b"\xa2\x61e\x80\x61l\xf6")
}

fn indexed(op: &RepoOp, car: &CarSlice) -> Result<Option<RecordOp>, VerifyError> {
    let Some(collection) = Collection::of(op.path.collection_str()) else { return Ok(None) };
    let rkey = op.path.rkey();
    Ok(Some(match op.cid {
        None => RecordOp::gone(collection, rkey),
        Some(cid) => record(collection, rkey, &cid, car.block(&cid)?),
    }))
}

/// A record from its block. One that is no record counts as one that cannot be read.
pub(super) fn record(collection: Collection, rkey: RecordKey, cid: &Cid, block: &[u8]) -> RecordOp {
    let hash = hash_of(cid);
    match cbor::decode_record(block) {
        Ok(value) => RecordOp::written(collection, rkey, hash, cbor::json::to_json(&value)),
        Err(error) => {
            tracing::debug!(collection = collection.nsid(), %rkey, %error, "a record that cannot be decoded");
            RecordOp { collection, rkey, cid: Some(hash), record: None }
        }
    }
}

pub(super) fn hash_of(cid: &Cid) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = cid.hash().digest();
    let length = digest.len().min(32);
    hash[..length].copy_from_slice(&digest[..length]);
    hash
}

/// The collection and the key of a record that an index keeps.
pub(super) fn place(key: &str) -> Option<(Collection, RecordKey)> {
    let path: RecordPath = key.parse().ok()?;
    Some((Collection::of(path.collection_str())?, path.rkey()))
}
