use super::lenient;
use super::open_enum;
use super::typed::record;
use crate::syntax::{Datetime, Did};

record! {
    "io.atcr.sailor.profile";
    /// What a user has set, in their own repo under the key `self`.
    pub struct ProfileRecord {
        /// When it was made.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
        /// When it was last changed.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub updated_at: Option<Datetime>,
        /// The hold to push to; `None` leaves the choice to the AppView. The URL that profiles of 2025 have is read
        /// as its did:web.
        #[serde(default, deserialize_with = "lenient::hold", skip_serializing_if = "Option::is_none")]
        pub default_hold: Option<Did>,
        /// Whether moving a tag deletes the manifest that has no tag left.
        #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "lenient::is_false")]
        pub auto_remove_untagged: bool,
        /// The client whose commands are shown; `None` is docker.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub oci_client: Option<OciClient>,
        /// The registry domain that is shown, one of the AppView's own; `None` is its first. At most 255 bytes.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub registry_domain: Option<String>,
    }
}

open_enum! {
    /// A client of registries, as a profile names it.
    pub enum OciClient {
        /// Docker.
        Docker = "docker",
        /// Podman.
        Podman = "podman",
        /// Buildah.
        Buildah = "buildah",
        /// nerdctl.
        Nerdctl = "nerdctl",
        /// crane.
        Crane = "crane",
        /// No commands, only the name.
        None = "none",
    }
}
