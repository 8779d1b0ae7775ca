use atcr_core::syntax::Did;
use bytes::Bytes;
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::{Expect, MAX_RECORD_BYTES, MAX_WRITES, RecordPath, RepoError, Swap, Write, WriteAction};
use crate::cbor::{self, BlobRef, blob_refs, cid_for_cbor};

/// A write whose record was checked and encoded: the part of the work that needs no order, done where the write comes
/// from and not in the writer.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: RecordPath,
    /// What the record may be before. `None`: anything.
    pub(super) exists: Option<bool>,
    pub(super) expect: Expect,
    /// The new record; `None` for a deletion.
    pub(super) record: Option<PreparedRecord>,
}

#[derive(Debug)]
pub(super) struct PreparedRecord {
    pub(super) cid: Cid,
    pub(super) bytes: Bytes,
    pub(super) blobs: Vec<BlobRef>,
}

/// A set of writes to one repo.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) did: Did,
    pub(super) swap: Swap,
    pub(super) list: Vec<Prepared>,
}

impl Writes {
    pub(super) fn new(did: Did, writes: Vec<Write>, swap: Swap) -> Result<Self, RepoError> {
        if writes.len() > MAX_WRITES {
            return Err(RepoError::TooManyWrites(writes.len()));
        }
        Ok(Self { did, swap, list: writes.into_iter().map(Prepared::new).collect::<Result<_, _>>()? })
    }

    /// Whether a new record refers to a blob.
    pub(super) fn name_blobs(&self) -> bool {
        self.list.iter().filter_map(|w| w.record.as_ref()).any(|r| !r.blobs.is_empty())
    }

    /// Memory that the new records take.
    pub(super) fn bytes(&self) -> usize {
        self.list.iter().filter_map(|w| w.record.as_ref()).map(|r| r.bytes.len()).sum()
    }
}

impl Prepared {
    fn new(write: Write) -> Result<Self, RepoError> {
        let path = write.path()?;
        let (exists, expect, value) = match write {
            Write::Create { value, .. } => (Some(false), Expect::Anything, Some(value)),
            Write::Update { value, expect, .. } => (Some(true), expect, Some(value)),
            Write::Put { value, expect, .. } => (None, expect, Some(value)),
            Write::Delete { expect, .. } => (Some(true), expect, None),
        };
        let record = value.map(|value| PreparedRecord::new(&path, value)).transpose()?;
        Ok(Self { path, exists, expect, record })
    }

    /// What the write does to a record that is at `current`, if it may be done at all.
    pub(super) fn check(&self, current: Option<Cid>) -> Result<WriteAction, RepoError> {
        let expected = match self.expect {
            Expect::Anything => true,
            Expect::Absent => current.is_none(),
            Expect::Cid(cid) => current == Some(cid),
        };
        match (self.exists, current) {
            (Some(false), Some(_)) => return Err(RepoError::RecordExists(self.path.clone())),
            (Some(true), None) => return Err(RepoError::RecordNotFound(self.path.clone())),
            _ if !expected => return Err(RepoError::RecordSwap { path: self.path.clone(), actual: current }),
            _ => {}
        }
        Ok(match (current, self.record.as_ref().map(|r| r.cid)) {
            (_, None) => WriteAction::Delete,
            (None, Some(_)) => WriteAction::Create,
            (Some(before), Some(after)) if before == after => WriteAction::Unchanged,
            (Some(_), Some(_)) => WriteAction::Update,
        })
    }
}

impl PreparedRecord {
    fn new(path: &RecordPath, mut value: Ipld) -> Result<Self, RepoError> {
        let invalid = |cause| RepoError::InvalidRecord { path: path.clone(), cause };
        let Ipld::Map(map) = &mut value else {
            return Err(invalid(cbor::DataError { path: "/".into(), what: "a record is an object" }));
        };
        // A record always says what it is: this also keeps it from having the bytes of a tree node or a commit.
        match map.get("$type") {
            None => {
                map.insert("$type".into(), Ipld::String(path.collection_str().into()));
            }
            Some(Ipld::String(found)) if found == path.collection_str() => {}
            Some(Ipld::String(found)) => {
                return Err(RepoError::TypeMismatch { path: path.clone(), found: found.clone() });
            }
            Some(_) => {
                return Err(invalid(cbor::DataError {
                    path: "/$type".into(),
                    what: "$type is a non-empty string",
                }));
            }
        }
        cbor::json::check_value(&value).map_err(invalid)?;
        let bytes = cbor::encode(&value)?;
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RepoError::RecordTooLarge { path: path.clone(), size: bytes.len() });
        }
        Ok(Self { cid: cid_for_cbor(&bytes), bytes, blobs: blob_refs(&value) })
    }
}
