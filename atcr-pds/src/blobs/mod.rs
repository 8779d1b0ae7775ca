//! The bytes of blobs: files that records refer to (specification, Blobs).
//!
//! What is known *about* a blob (media type, size, whether a record refers to it) is kept by
//! [`Repos`](crate::Repos), in the same transaction as the records. This module keeps the bytes, behind
//! [`BlobStorage`], and joins the two in [`Blobs`].

mod directory;
mod intake;
mod memory;
mod storage;

pub use directory::DirectoryBlobs;
pub use intake::{Blobs, DEFAULT_BLOB_LIMIT, UploadError};
pub use memory::MemoryBlobs;
pub use storage::{BlobContent, BlobError, BlobSink, BlobStorage};
