use super::lenient;
use super::typed::record;
use crate::syntax::{Datetime, Did};

record! {
    "io.atcr.hold.captain";
    /// Who owns a hold and how it is open, in the hold's repo under the key `self`.
    ///
    /// A flag that is missing is false. One that is there must be a boolean: a record that cannot be read opens
    /// nothing.
    pub struct CaptainRecord {
        /// The owner.
        pub owner: Did,
        /// Whether anyone may read.
        #[serde(default)]
        pub public: bool,
        /// Whether any authenticated user may enrol as crew.
        #[serde(default)]
        pub allow_all_crew: bool,
        /// Whether the hold posts about pushes.
        #[serde(default)]
        pub enable_bluesky_posts: bool,
        /// When the hold was set up.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub deployed_at: Datetime,
        /// Where its storage is; at most 64 bytes.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub region: Option<String>,
        /// The hold that it has moved to.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub successor: Option<Did>,
        /// Who runs the storage; only in records before 2026, and not written.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing)]
        pub provider: Option<String>,
    }
}
