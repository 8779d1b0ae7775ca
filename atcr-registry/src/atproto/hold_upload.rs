use atcr_core::methods::UploadId;
use atcr_core::oci::{Algorithm, Hasher};
use atcr_core::syntax::Did;
use atcr_core::{StoreError, blob_store::UploadState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An upload to a hold between two steps, as it travels in the session token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldUpload {
    /// Where it goes.
    #[serde(rename = "h")]
    pub(super) hold: Did,
    /// The hold's name for it.
    #[serde(rename = "u")]
    pub(super) upload_id: UploadId,
    /// What the hold told about itself when the upload began.
    #[serde(rename = "c")]
    pub(super) kind: HoldKind,
    /// How many parts are there.
    #[serde(rename = "n")]
    pub(super) parts: u32,
    /// Their receipts in order, where the hold does not remember them.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) etags: Vec<String>,
    /// The hash of the content so far, where the hold does not verify digests.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<serde_bytes::ByteBuf>,
    /// The hold gives the addresses of several parts in one call.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) batch: bool,
    /// The last part is shorter than a part that is not the last may be: nothing can be added any more.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ended: bool,
    /// The hold keeps the beginning of a part until the part is whole.
    #[serde(rename = "k", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) tails: bool,
    /// How many bytes of the next part the hold keeps.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub(super) tail: u64,
    /// The size of the blob, where that is known.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a hold told about itself, and what is known of a blob, when its upload begins.
pub(super) struct Begun {
    pub(super) kind: HoldKind,
    pub(super) batch: bool,
    pub(super) tails: bool,
    pub(super) size: Option<u64>,
}

/// How a hold takes parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HoldKind {
    /// Parts of any size, remembered and hashed by the hold.
    #[serde(rename = "s")]
    Streaming,
    /// Parts of this many bytes, the last one shorter, each with a receipt: what upstream's holds do.
    #[serde(rename = "p")]
    Parts(u32),
}

impl HoldUpload {
    /// Reads the state that the client brought back.
    pub(super) fn read(upload: &UploadState) -> Result<Self, StoreError> {
        serde_ipld_dagcbor::from_slice(&upload.state).map_err(|_| StoreError::UploadUnknown)
    }

    /// Writes the state for the client to bring back.
    pub(super) fn write(&self, offset: u64) -> Result<UploadState, StoreError> {
        let state = serde_ipld_dagcbor::to_vec(self).map_err(StoreError::internal)?;
        Ok(UploadState { offset, state: Bytes::from(state) })
    }

    /// The hash so far; `None` where the hold verifies the digest itself.
    pub(super) fn hasher(&self) -> Result<Option<Hasher>, StoreError> {
        let Some(state) = &self.hash else { return Ok(None) };
        Hasher::from_state(state).map(Some).ok_or(StoreError::UploadUnknown)
    }

    /// Keeps the hash for the next step.
    pub(super) fn keep_hasher(&mut self, hasher: Option<&Hasher>) {
        self.hash = hasher.map(|hasher| hasher.to_state().into());
    }

    /// A fresh upload.
    pub(super) fn new(hold: Did, upload_id: UploadId, begun: Begun, algorithm: Algorithm) -> Self {
        let Begun { kind, batch, tails, size } = begun;
        let mut upload = Self {
            hold,
            upload_id,
            kind,
            parts: 0,
            etags: Vec::new(),
            hash: None,
            batch,
            ended: false,
            tails,
            tail: 0,
            size,
        };
        if kind != HoldKind::Streaming {
            upload.keep_hasher(Some(&Hasher::new(algorithm)));
        }
        upload
    }
}
