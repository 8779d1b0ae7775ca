use serde::{Deserialize, Serialize};

use super::lenient;
use super::typed::record;
use crate::syntax::{Datetime, Did};

record! {
    "io.atcr.sailor.webhook";
    /// A webhook, as upstream kept it in the user's repo from February to March 2026. Nothing writes it any more; it
    /// is read to clean it up.
    pub struct WebhookRecord {
        /// The hold that called it.
        pub hold_did: Did,
        /// When it was called.
        pub triggers: WebhookTriggers,
        /// The CID of the private record with URL and secret, on the hold.
        pub private_cid: String,
        /// When it was made.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
        /// When it was last changed.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub updated_at: Option<Datetime>,
    }
}

/// The bit mask of a webhook's occasions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebhookTriggers(pub u32);

impl WebhookTriggers {
    /// The first scan of a manifest.
    pub const SCAN_FIRST: Self = Self(0x01);
    /// Every scan.
    pub const SCAN_ALL: Self = Self(0x02);
    /// A scan whose result changed.
    pub const SCAN_CHANGED: Self = Self(0x04);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
