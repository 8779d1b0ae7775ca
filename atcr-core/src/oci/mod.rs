//! What the OCI specifications name: digests, repository names, tags, references, manifests and ranges.

mod digest;
mod manifest;
mod range;
mod reference;
mod repository_name;
mod tag;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use manifest::{Descriptor, Manifest, ManifestContent, ManifestError, MediaType, Platform};
pub use range::{ByteRange, RangeRequest};
pub use reference::Reference;
pub use repository_name::RepositoryName;
pub use tag::Tag;
