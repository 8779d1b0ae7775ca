use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

/// What the server is strict about.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is a trait that a real server has or has not")]
pub struct Rules {
    /// The least size of a part other than the last, in bytes. Default: 5 MiB.
    pub min_part: u64,
    /// The greatest size of a part or of an object that comes in one request, in bytes. Default: 5 GiB.
    pub max_put: u64,
    /// The greatest object or range that one copy takes, in bytes. Default: 5 GiB.
    pub max_copy: u64,
    /// The most entries of a page of a listing. Default: 1,000.
    pub page: usize,
    /// ETags in headers stand without quotes, as some servers have them. Default: no.
    pub bare_etags: bool,
    /// How far the server's clock is ahead of the true time, in seconds. Default: 0.
    pub clock_ahead: i64,
    /// Ranges are ignored: the whole object is answered. Default: no.
    pub ignores_ranges: bool,
    /// Origins other than its own may read, as browsers ask. Default: no.
    pub cors: bool,
    /// What Google refuses is refused: ranges that are copied, bodies without their length, chunks with signatures or
    /// trailers, and the header `Accept-Encoding` among those that are signed, since its front end changes it. Default:
    /// no.
    pub google: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_part: 5 << 20,
            max_put: 5 << 30,
            max_copy: 5 << 30,
            page: 1000,
            bare_etags: false,
            clock_ahead: 0,
            ignores_ranges: false,
            cors: false,
            google: false,
        }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Content,
    pub(crate) etag: String,
    pub(crate) content_type: Option<String>,
    pub(crate) modified: SystemTime,
}

/// Bytes in the pieces that they came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) md5: [u8; 16],
    pub(crate) modified: SystemTime,
}

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) content_type: Option<String>,
    pub(crate) started: SystemTime,
    pub(crate) parts: BTreeMap<i32, Part>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) uploads: BTreeMap<String, Upload>,
    pub(crate) next: u64,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    pub(crate) rules: Rules,
}

impl Store {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { state: Mutex::default(), rules }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.size += piece.len() as u64;
        self.pieces.push(piece);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.size += other.size;
        self.pieces.extend(other.pieces.iter().cloned());
    }

    /// `length` bytes from `start` on, which must be there.
    pub(crate) fn slice(&self, start: u64, length: u64) -> Self {
        let (mut before, mut left, mut slice) = (start, length, Self::default());
        for piece in &self.pieces {
            let size = piece.len() as u64;
            if before >= size {
                before -= size;
                continue;
            }
            if left == 0 {
                break;
            }
            let taken = (size - before).min(left);
            let bounds = [before, before + taken].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            slice.push(piece.slice(bounds[0]..bounds[1]));
            (before, left) = (0, left - taken);
        }
        slice
    }
}
