//! Where the bytes are: the seam to the back ends.

#[cfg(feature = "azure")]
mod azure;
#[cfg(any(feature = "s3", feature = "azure"))]
mod bucket;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod doctor;
mod filesystem;
mod key;
mod layout;
mod measured;
mod memory;
mod object_storage;
#[cfg(feature = "s3")]
mod s3;
#[cfg(any(feature = "s3", feature = "azure"))]
mod spool;

#[cfg(feature = "azure")]
pub use azure::{AzureAccountKey, AzureConfig, AzureKeyError, AzureStorage};
pub use filesystem::FilesystemStorage;
pub use key::{KeyError, ObjectKey};
pub use layout::{Layout, LayoutError};
use measured::Measured;
pub use memory::MemoryStorage;
pub(crate) use object_storage::bare;
pub use object_storage::{
    Capabilities, Object, ObjectStorage, OpenUpload, Part, PartBody, PartNumber, SignedRequest, StorageError,
    StorageUpload, Usage,
};
#[cfg(feature = "s3")]
pub use s3::{Addressing, S3Config, S3Credentials, S3Storage};
