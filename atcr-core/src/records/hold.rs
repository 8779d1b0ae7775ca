use url::Url;

use super::lenient;
use super::typed::record;
use crate::syntax::{Datetime, Did};

record! {
    "io.atcr.hold";
    /// A hold of 2025, in its owner's repo under the hold's host name. Holds have had a repo of their own since; read
    /// it only to find an old hold.
    pub struct HoldRecord {
        /// The hold's URL.
        pub endpoint: Url,
        /// Its owner.
        pub owner: Did,
        /// Whether anyone may read from it.
        #[serde(default)]
        pub public: bool,
        /// When it was registered.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
    }
}

impl HoldRecord {
    /// The hold's DID: the did:web of its URL.
    pub fn did(&self) -> Option<Did> {
        lenient::http_url(self.endpoint.as_str()).as_ref().and_then(Did::web_from_url)
    }
}
