//! Where the bytes are: the seam to the back ends.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod filesystem;
mod key;
mod measured;
mod memory;
mod object_storage;

pub use filesystem::FilesystemStorage;
pub use key::{KeyError, ObjectKey};
use measured::Measured;
pub use memory::MemoryStorage;
pub use object_storage::{
    Capabilities, Object, ObjectStorage, OpenUpload, Part, PartBody, PartNumber, SignedRequest, StorageError,
    StorageUpload, Usage,
};
