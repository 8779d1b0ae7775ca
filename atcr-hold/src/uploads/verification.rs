use std::num::NonZeroU64;

/// When the bytes of a blob that went to the storage directly are read back and hashed. What comes through the hold is
/// always hashed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Before the upload is acknowledged: the uploader waits as long as the storage needs to give the bytes back, and
    /// clients of registries wait half a minute.
    Sync,
    /// Soon after it was acknowledged. Until then the blob is there for its uploader alone.
    #[default]
    Background,
    /// Never: whoever may push is believed. For holds whose crew is one machine.
    Trust,
}

/// How blobs are verified.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Verification {
    /// When. Default: in the background.
    pub when: Verify,
    /// How many blobs are read back at the same time in the background. Default: 2.
    pub parallel: usize,
    /// How many bytes a second each of them may take from the storage. Default: no limit.
    pub rate: Option<NonZeroU64>,
    /// The largest blob in bytes that is verified at once when somebody else than its uploader asks for it; 0 is none.
    /// They wait for it, at most ten seconds. Default: 64 MiB.
    pub on_demand: u64,
}

impl Default for Verification {
    fn default() -> Self {
        Self { when: Verify::default(), parallel: 2, rate: None, on_demand: 64 << 20 }
    }
}
