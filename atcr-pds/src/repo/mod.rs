//! Repos: the Merkle search tree, signed commits, CAR files, and [`Repos`], which keeps them in a store.

mod cache;
pub mod car;
mod commit;
mod error;
mod event;
mod event_log;
mod export;
mod frame;
mod import;
mod keys;
pub mod mst;
mod path;
mod prepared;
mod repos;
mod source;
mod walk;
mod write;
mod writer;

pub use commit::{Commit, CommitError};
pub use error::RepoError;
pub use event::{CommitEvent, Event, EventKind, NewEvent, RepoOp, Since};
pub use frame::{Frame, FrameError, MAX_FRAME_BYTES, SequencedEvent};
pub use import::{Import, Imported, RepoRecords};
pub use keys::{KeyError, KeyStore, MemoryKeys};
pub use path::RecordPath;
pub use repos::{NewRepo, RepoOptions, Repos};
pub use write::{
    Applied, Expect, Head, MAX_RECORD_BYTES, MAX_WRITES, Page, Record, Swap, Write, WriteAction, WriteResult,
};
