use atcr_core::syntax::{Datetime, Did, Handle, Tid};
use bytes::{BufMut as _, Bytes, BytesMut};
use ipld_core::cid::Cid;
use serde::Serialize;

use super::{Head, RecordPath, WriteAction};
use crate::cbor::{self, CborError};
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

/// A sequenced event, durable and ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the sequence, from 1.
    pub seq: u64,
    /// Whose repo.
    pub did: Did,
    /// What happened.
    pub kind: EventKind,
    /// The body of the frame, DAG-CBOR, `seq` and `time` included.
    pub body: Bytes,
}

impl Event {
    /// The binary WebSocket message: header, then body (specification, Event Stream).
    pub fn frame(&self) -> Bytes {
        let name = self.kind.as_str();
        let mut frame = BytesMut::with_capacity(16 + self.body.len());
        frame.put_slice(&[0xa2, 0x61, b't']);
        frame.put_u8(0x60 | u8::try_from(name.len()).expect("the names have at most 9 bytes"));
        frame.put_slice(name.as_bytes());
        frame.put_slice(&[0x62, b'o', b'p', 0x01]);
        frame.put_slice(&self.body);
        frame.freeze()
    }
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
            Self::Commit(commit) => cbor::encode(&CommitBody::new(commit, seq, time))?,
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
        Ok(Event { seq, did: self.did().clone(), kind: self.kind(), body })
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

#[derive(Serialize)]
struct CommitBody<'a> {
    seq: u64,
    repo: &'a Did,
    time: &'a Datetime,
    rev: Tid,
    since: Option<Tid>,
    commit: Cid,
    rebase: bool,
    #[serde(rename = "tooBig")]
    too_big: bool,
    blocks: &'a serde_bytes::Bytes,
    ops: Vec<OpBody<'a>>,
    blobs: [Cid; 0],
    #[serde(rename = "prevData", skip_serializing_if = "Option::is_none")]
    prev_data: Option<Cid>,
}

#[derive(Serialize)]
struct OpBody<'a> {
    action: &'static str,
    path: &'a str,
    cid: Option<Cid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Cid>,
}

impl<'a> CommitBody<'a> {
    fn new(commit: &'a CommitEvent, seq: u64, time: &'a Datetime) -> Self {
        let ops = commit
            .ops
            .iter()
            .map(|op| OpBody {
                action: match op.action() {
                    WriteAction::Create => "create",
                    WriteAction::Delete => "delete",
                    WriteAction::Update | WriteAction::Unchanged => "update",
                },
                path: op.path.as_str(),
                cid: op.cid,
                prev: op.prev,
            })
            .collect();
        Self {
            seq,
            repo: &commit.did,
            time,
            rev: commit.head.rev,
            since: commit.since.map(|s| s.rev),
            commit: commit.head.cid,
            rebase: false,
            too_big: false,
            blocks: serde_bytes::Bytes::new(&commit.blocks),
            ops,
            blobs: [],
            prev_data: commit.since.map(|s| s.data),
        }
    }
}
