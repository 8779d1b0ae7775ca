use ipld_core::cid::Cid;

/// What is wrong with a tree, or with what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MstError {
    /// A node is needed that the source does not have at hand: load it and try again.
    #[error("tree node {0} is missing")]
    Missing(Cid),
    /// A node that is not in the one form that a tree with its contents has.
    #[error("tree node {cid} is not canonical: {what}")]
    NotCanonical {
        /// The node.
        cid: Cid,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A key that no tree holds: not `collection/rkey` of their characters, or longer than 1,024 bytes.
    #[error("{0:?} is not a key of a tree")]
    InvalidKey(String),
    /// A value that is not the CID of a record.
    #[error("{0} is not the CID of a record")]
    InvalidValue(Cid),
    /// Insertion of a key that is there.
    #[error("the tree has the key {0} already")]
    KeyExists(String),
    /// Update or removal of a key that is not there.
    #[error("the tree does not have the key {0}")]
    KeyNotFound(String),
    /// The keys that a tree is built from are out of order, or one of them comes twice.
    #[error("the key {0} is not above the one before it")]
    Unsorted(String),
    /// An operation that is to be undone did not leave the tree as it is.
    #[error("the operation on {0} does not fit the tree")]
    NotInvertible(String),
}
