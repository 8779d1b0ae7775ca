use std::collections::HashSet;

use atcr_core::syntax::{Datetime, Did, SyntaxError, Tid};
use bytes::Bytes;
use ipld_core::cid::Cid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{CommitEvent, EventKind, Head, MAX_WRITES, NewEvent, RecordPath, RepoOp, Since};
use crate::cbor::{self, CborError};
use crate::store::RepoStatus;

/// The longest frame of the protocol, in bytes.
pub const MAX_FRAME_BYTES: usize = 5_000_000;
/// The most bytes of blocks in one `#commit`.
const MAX_COMMIT_BLOCKS: usize = 2_000_000;
/// The most bytes of blocks in one `#sync`: a commit and a header.
const MAX_SYNC_BLOCKS: usize = 10_000;

/// A message of `com.atproto.sync.subscribeRepos` as a consumer reads it (specification, Event Stream).
///
/// What it says is well-formed and within the protocol's limits, and no more: blocks, signatures and the order of
/// events are for the consumer to judge.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Frame {
    /// An event with its place in the sequence.
    Event(SequencedEvent),
    /// `#info`: a word from the server, which has no place in the sequence.
    Info {
        /// What it is about, such as `OutdatedCursor`.
        name: String,
        /// For a human.
        message: Option<String>,
    },
    /// The server ends the stream.
    Error {
        /// Why, such as `FutureCursor` or `ConsumerTooSlow`.
        error: String,
        /// For a human.
        message: Option<String>,
    },
    /// An operation or a type that is not known here; the protocol asks to pass over it.
    Unknown,
}

/// An event that was read from a stream.
#[derive(Debug, Clone)]
pub struct SequencedEvent {
    /// Its place in the sequence, from 1.
    pub seq: u64,
    /// When the server sequenced it.
    pub time: Datetime,
    /// What happened.
    pub event: NewEvent,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("the frame has {0} bytes; at most {MAX_FRAME_BYTES} are read")]
    TooLarge(usize),
    /// Not a header and a body in canonical DAG-CBOR, or with other fields than its type has.
    #[error("the frame is malformed: {0}")]
    Malformed(#[from] CborError),
    /// A sequence number outside 1 to 2^53 - 1.
    #[error("{0} is not a sequence number")]
    Seq(u64),
    /// A `#commit` or `#sync` that carries more blocks than it may.
    #[error("{blocks} bytes of blocks; at most {limit} fit")]
    BlocksTooLarge {
        /// What it carries, in bytes.
        blocks: usize,
        /// What it may carry.
        limit: usize,
    },
    /// A `#commit` that its server says is too big to be told whole: fetch the repo instead.
    #[error("the commit was too big to be told; fetch the repo")]
    TooBig,
    /// More operations than [`MAX_WRITES`].
    #[error("{0} operations; at most {MAX_WRITES} make a commit")]
    TooManyOperations(usize),
    /// The path of an operation is not that of a record.
    #[error(transparent)]
    Path(#[from] SyntaxError),
    /// An operation whose fields contradict its action, or that comes after another on the same path.
    #[error("the operation on {path} cannot be: {what}")]
    Operation {
        /// On which record.
        path: RecordPath,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A `#commit` of before sync 1.1: it follows another, and does not say on which tree.
    #[error("the commit does not say prevData")]
    PrevData,
}

#[derive(Deserialize)]
struct Header {
    op: i64,
    t: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    message: Option<String>,
}

#[derive(Deserialize)]
struct InfoBody {
    name: String,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Place {
    seq: u64,
    time: Datetime,
}

#[derive(Deserialize)]
struct CommitBody {
    repo: Did,
    rev: Tid,
    since: Option<Tid>,
    commit: Cid,
    #[serde(rename = "prevData")]
    prev_data: Option<Cid>,
    ops: Vec<OpBody>,
    blocks: serde_bytes::ByteBuf,
    #[serde(rename = "tooBig", default)]
    too_big: bool,
}

#[derive(Deserialize)]
struct OpBody {
    action: String,
    path: String,
    cid: Option<Cid>,
    prev: Option<Cid>,
}

#[derive(Deserialize)]
struct SyncBody {
    did: Did,
    rev: Tid,
    blocks: serde_bytes::ByteBuf,
}

#[derive(Deserialize)]
struct IdentityBody {
    did: Did,
    handle: Option<String>,
}

#[derive(Deserialize)]
struct AccountBody {
    did: Did,
    active: bool,
    status: Option<String>,
}

impl Frame {
    /// Reads a binary WebSocket message, all of it. Fields that are not known are passed over, as lexicons may grow.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(frame.len()));
        }
        let (header, body) = cbor::split_first(frame)?;
        let header: Header = read(header)?;
        if header.op == -1 {
            let ErrorBody { error, message } = read(body)?;
            return Ok(Self::Error { error, message });
        }
        let kind = match header.t.as_deref() {
            Some("#info") if header.op == 1 => {
                let InfoBody { name, message } = read(body)?;
                return Ok(Self::Info { name, message });
            }
            Some(name) if header.op == 1 => EventKind::parse(name),
            _ => None,
        };
        let Some(kind) = kind else {
            cbor::decode(body)?;
            return Ok(Self::Unknown);
        };
        let Place { seq, time } = read(body)?;
        if !(1..1 << 53).contains(&seq) {
            return Err(FrameError::Seq(seq));
        }
        let event = match kind {
            EventKind::Commit => NewEvent::Commit(Box::new(commit(read(body)?)?)),
            EventKind::Sync => {
                let SyncBody { did, rev, blocks } = read(body)?;
                NewEvent::Sync { did, rev, blocks: within(blocks, MAX_SYNC_BLOCKS)? }
            }
            EventKind::Identity => {
                let IdentityBody { did, handle } = read(body)?;
                // A handle that is none says as much as no handle: look it up.
                NewEvent::Identity { did, handle: handle.and_then(|handle| handle.parse().ok()) }
            }
            EventKind::Account => {
                let AccountBody { did, active, status } = read(body)?;
                NewEvent::Account { did, status: account_status(active, status.as_deref()) }
            }
        };
        Ok(Self::Event(SequencedEvent { seq, time, event }))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    Ok(cbor::from_slice(bytes)?)
}

fn within(blocks: serde_bytes::ByteBuf, limit: usize) -> Result<Bytes, FrameError> {
    match blocks.len() {
        len if len > limit => Err(FrameError::BlocksTooLarge { blocks: len, limit }),
        _ => Ok(blocks.into_vec().into()),
    }
}

fn commit(body: CommitBody) -> Result<CommitEvent, FrameError> {
    if body.too_big {
        return Err(FrameError::TooBig);
    }
    if body.ops.len() > MAX_WRITES {
        return Err(FrameError::TooManyOperations(body.ops.len()));
    }
    let since = match (body.since, body.prev_data) {
        (None, None) => None,
        (Some(rev), Some(data)) => Some(Since { rev, data }),
        _ => return Err(FrameError::PrevData),
    };
    let mut seen = HashSet::with_capacity(body.ops.len());
    let mut ops = Vec::with_capacity(body.ops.len());
    for OpBody { action, path, cid, prev } in body.ops {
        let path: RecordPath = path.parse()?;
        let fits = match action.as_str() {
            "create" => cid.is_some() && prev.is_none(),
            "update" => cid.is_some() && prev.is_some(),
            "delete" => cid.is_none() && prev.is_some(),
            _ => return Err(FrameError::Operation { path, what: "its action is not known" }),
        };
        if !fits {
            return Err(FrameError::Operation { path, what: "cid or prev contradict its action" });
        }
        if !seen.insert(path.clone()) {
            return Err(FrameError::Operation { path, what: "there is another one on the same path" });
        }
        ops.push(RepoOp { path, cid, prev });
    }
    Ok(CommitEvent {
        did: body.repo,
        head: Head { cid: body.commit, rev: body.rev },
        since,
        ops,
        blocks: within(body.blocks, MAX_COMMIT_BLOCKS)?,
    })
}

/// The list of statuses is open. One that is not known, or not said, is taken for the mildest.
fn account_status(active: bool, status: Option<&str>) -> RepoStatus {
    match status.and_then(RepoStatus::parse) {
        _ if active => RepoStatus::Active,
        None | Some(RepoStatus::Active) => RepoStatus::Deactivated,
        Some(status) => status,
    }
}
