//! The AppView side: manifests in PDSs, blobs in holds.
