use ipld_core::cid::Cid;

/// What is wrong with a CAR file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarError {
    /// The file ends inside a section.
    #[error("the CAR file ends inside a section")]
    Truncated,
    /// The header is not one of version 1, or lacks the root that is needed.
    #[error("the CAR header is malformed: {0}")]
    Header(String),
    /// A section promises more bytes than are allowed.
    #[error("a section of {size} bytes; at most {limit} are read")]
    TooLarge {
        /// What it promises.
        size: u64,
        /// What is read.
        limit: u64,
    },
    /// The length of a section is not a varint in its shortest form.
    #[error("the length of a section is malformed")]
    Length,
    /// A section does not begin with a CID that the protocol uses.
    #[error("a section does not begin with a CID of version 1, dag-cbor or raw, SHA-256")]
    Cid,
    /// The bytes of a block are not those that its CID names.
    #[error("the bytes of block {0} do not have its hash")]
    Hash(Cid),
    /// More blocks than are allowed.
    #[error("more than {0} blocks")]
    TooManyBlocks(u64),
    /// A block that is needed is not in the file.
    #[error("block {0} is not in the CAR file")]
    Missing(Cid),
    /// The source of the bytes failed.
    #[error("the CAR file could not be read: {0}")]
    Io(String),
}
