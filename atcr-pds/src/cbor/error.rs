/// Bytes that are not canonical DAG-CBOR of the AT Protocol's data model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("the CBOR ends inside an item that begins at byte {at}")]
    Truncated {
        /// Where that item begins.
        at: usize,
    },
    /// More bytes after the value.
    #[error("there are bytes after the CBOR value, from byte {at} on")]
    Trailing {
        /// Where they begin.
        at: usize,
    },
    /// Something that DAG-CBOR or the data model does not have, or has in another encoding only.
    #[error("the CBOR is not canonical at byte {at}: {what}")]
    NotCanonical {
        /// Where the item begins.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Deeper than [`MAX_DEPTH`](super::MAX_DEPTH) levels.
    #[error("the value is nested deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// A CID that the AT Protocol does not use, or that does not read as one.
    #[error("a link is not a CID of version 1 with codec dag-cbor or raw and a SHA-256 hash")]
    Cid,
    /// The value has another shape than what it is read as.
    #[error("the CBOR does not have the expected shape: {0}")]
    Shape(String),
    /// A value that cannot be written as DAG-CBOR.
    #[error("the value cannot be encoded: {0}")]
    Encode(String),
}

/// A value outside the data model, or JSON that does not follow its conventions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at {path})")]
pub struct DataError {
    /// Where in the value, as a slash-separated path; `/` is the value itself.
    pub path: String,
    /// What is wrong there.
    pub what: &'static str,
}

impl DataError {
    pub(super) fn new(what: &'static str) -> Self {
        Self { path: "/".into(), what }
    }

    /// The same error, seen from one level up.
    pub(super) fn under(mut self, step: impl std::fmt::Display) -> Self {
        let rest = if self.path == "/" { "" } else { self.path.as_str() };
        self.path = format!("/{step}{rest}");
        self
    }
}
