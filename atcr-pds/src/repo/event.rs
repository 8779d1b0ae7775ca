use atcr_core::syntax::{Datetime, Did, Handle, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;
use serde::Serialize;

use super::{Head, RecordPath, WriteAction};
use crate::cbor::{self, CborError, emit};
use crate::store::RepoStatus;

/// The kinds of sequenced events of `com.atproto.sync.subscribeRepos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `#commit`
    Commit,
    /// `#sync`
    Sync,
    /// `#identity`
    Identity,
    /// `#account`
    Account,
}

impl EventKind {
    /// The `t` of the frame header: `#commit`, `#sync`, `#identity`, `#account`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "#commit",
            Self::Sync => "#sync",
            Self::Identity => "#identity",
            Self::Account => "#account",
        }
    }

    /// Reads what [`EventKind::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Commit, Self::Sync, Self::Identity, Self::Account].into_iter().find(|k| k.as_str() == text)
    }
}

/// A sequenced event, durable and ready to be sent. A clone shares its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its place in the sequence, from 1.
    pub seq: u64,
    /// Whose repo.
    pub did: Did,
    /// What happened.
    pub kind: EventKind,
    /// The body of the frame, DAG-CBOR, `seq` and `time` included.
    pub body: Bytes,
    /// Header and body: one for all subscribers.
    frame: Bytes,
}

impl Event {
    /// An event whose body was made by [`NewEvent::sequence`].
    pub fn new(seq: u64, did: Did, kind: EventKind, body: &[u8]) -> Self {
        let mut frame = header(kind, body.len());
        frame.extend_from_slice(body);
        Self::framed(seq, did, kind, frame)
    }

    fn framed(seq: u64, did: Did, kind: EventKind, frame: Vec<u8>) -> Self {
        let frame = Bytes::from(frame);
        let body = frame.slice(header_len(kind)..);
        Self { seq, did, kind, body, frame }
    }

    /// The binary WebSocket message: header, then body (specification, Event Stream). Not a copy.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }
}

fn header_len(kind: EventKind) -> usize {
    8 + kind.as_str().len()
}

/// The header of a frame, with room for a body.
fn header(kind: EventKind, body: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_len(kind) + body);
    emit::map(&mut out, 2);
    emit::text(&mut out, "t");
    emit::text(&mut out, kind.as_str());
    emit::text(&mut out, "op");
    emit::head(&mut out, 0, 1);
    out
}

/// An event before it has its place in the sequence.
#[derive(Debug, Clone)]
pub enum NewEvent {
    /// The repo has a new commit.
    Commit(Box<CommitEvent>),
    /// The repo is now at this commit, however it came there.
    Sync {
        /// Whose repo.
        did: Did,
        /// The revision of the commit.
        rev: Tid,
        /// A CAR with the commit block alone.
        blocks: Bytes,
    },
    /// The DID document or the handle may have changed.
    Identity {
        /// Whose.
        did: Did,
        /// The handle now, when it is known to be valid.
        handle: Option<Handle>,
    },
    /// The hosting status changed.
    Account {
        /// Whose.
        did: Did,
        /// The status now.
        status: RepoStatus,
    },
}

/// What a `#commit` event says (specification, Sync 1.1).
#[derive(Debug, Clone)]
pub struct CommitEvent {
    /// Whose repo.
    pub did: Did,
    /// The new commit.
    pub head: Head,
    /// The commit before; `None` for the first one.
    pub since: Option<Since>,
    /// The changes, one per path.
    pub ops: Vec<RepoOp>,
    /// A CAR slice: the commit, the new tree nodes, the new records, and the nodes that prove the changes.
    pub blocks: Bytes,
}

/// Where a repo was before a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The revision.
    pub rev: Tid,
    /// The root of the tree.
    pub data: Cid,
}

/// A change of one record in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoOp {
    /// Which record.
    pub path: RecordPath,
    /// The CID now; `None` after a deletion.
    pub cid: Option<Cid>,
    /// The CID before; `None` for a creation.
    pub prev: Option<Cid>,
}

impl RepoOp {
    /// What the change is.
    pub fn action(&self) -> WriteAction {
        match (&self.prev, &self.cid) {
            (None, Some(_)) => WriteAction::Create,
            (Some(_), None) => WriteAction::Delete,
            (a, b) if a == b => WriteAction::Unchanged,
            _ => WriteAction::Update,
        }
    }
}

impl NewEvent {
    /// Whose event it is.
    pub fn did(&self) -> &Did {
        match self {
            Self::Commit(commit) => &commit.did,
            Self::Sync { did, .. } | Self::Identity { did, .. } | Self::Account { did, .. } => did,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Commit(_) => EventKind::Commit,
            Self::Sync { .. } => EventKind::Sync,
            Self::Identity { .. } => EventKind::Identity,
            Self::Account { .. } => EventKind::Account,
        }
    }

    /// Gives the event its place: the body of its frame.
    pub fn sequence(&self, seq: u64, time: &Datetime) -> Result<Event, CborError> {
        let body = match self {
            Self::Commit(commit) => {
                let mut frame = header(EventKind::Commit, commit_size(commit));
                commit_body(&mut frame, commit, seq, time);
                return Ok(Event::framed(seq, commit.did.clone(), EventKind::Commit, frame));
            }
            Self::Sync { did, rev, blocks } => cbor::encode(&SyncBody {
                seq,
                did,
                time,
                rev: *rev,
                blocks: serde_bytes::Bytes::new(blocks),
            })?,
            Self::Identity { did, handle } => {
                cbor::encode(&IdentityBody { seq, did, time, handle: handle.as_ref() })?
            }
            Self::Account { did, status } => cbor::encode(&AccountBody {
                seq,
                did,
                time,
                active: *status == RepoStatus::Active,
                status: (*status != RepoStatus::Active).then_some(status.as_str()),
            })?,
        };
        Ok(Event::new(seq, self.did().clone(), self.kind(), &body))
    }
}

#[derive(Serialize)]
struct SyncBody<'a> {
    seq: u64,
    did: &'a Did,
    time: &'a Datetime,
    rev: Tid,
    blocks: &'a serde_bytes::Bytes,
}

#[derive(Serialize)]
struct IdentityBody<'a> {
    seq: u64,
    did: &'a Did,
    time: &'a Datetime,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<&'a Handle>,
}

#[derive(Serialize)]
struct AccountBody<'a> {
    seq: u64,
    did: &'a Did,
    time: &'a Datetime,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
}

/// About how long the body of a `#commit` is; not less.
fn commit_size(commit: &CommitEvent) -> usize {
    let ops: usize = commit.ops.iter().map(|op| 160 + op.path.as_str().len()).sum();
    400 + commit.did.as_str().len() + ops + commit.blocks.len()
}

/// The body of a `#commit`. Written by hand: it is most of what a commit costs to store, and a general encoder copies
/// the blocks several times over to put the keys in order.
fn commit_body(out: &mut Vec<u8>, commit: &CommitEvent, seq: u64, time: &Datetime) {
    let text = |out: &mut Vec<u8>, key: &str, value: &str| {
        emit::text(out, key);
        emit::text(out, value);
    };
    emit::map(out, 11 + usize::from(commit.since.is_some()));
    emit::text(out, "ops");
    emit::list(out, commit.ops.len());
    for op in &commit.ops {
        emit::map(out, 3 + usize::from(op.prev.is_some()));
        emit::text(out, "cid");
        match &op.cid {
            Some(cid) => emit::cid(out, cid),
            None => out.push(emit::NULL),
        }
        text(out, "path", op.path.as_str());
        if let Some(prev) = &op.prev {
            emit::text(out, "prev");
            emit::cid(out, prev);
        }
        let action = match op.action() {
            WriteAction::Create => "create",
            WriteAction::Delete => "delete",
            WriteAction::Update | WriteAction::Unchanged => "update",
        };
        text(out, "action", action);
    }
    text(out, "rev", &commit.head.rev.to_string());
    emit::text(out, "seq");
    emit::head(out, 0, seq);
    text(out, "repo", commit.did.as_str());
    text(out, "time", time.as_str());
    emit::text(out, "blobs");
    emit::list(out, 0);
    emit::text(out, "since");
    match &commit.since {
        Some(since) => emit::text(out, &since.rev.to_string()),
        None => out.push(emit::NULL),
    }
    emit::text(out, "blocks");
    emit::bytes(out, &commit.blocks);
    emit::text(out, "commit");
    emit::cid(out, &commit.head.cid);
    emit::text(out, "rebase");
    out.push(emit::FALSE);
    emit::text(out, "tooBig");
    out.push(emit::FALSE);
    if let Some(since) = &commit.since {
        emit::text(out, "prevData");
        emit::cid(out, &since.data);
    }
}
