//! The contract suite of [`BlobStore`](super::BlobStore).
