//! The contract suite of [`ManifestStore`](super::ManifestStore).
