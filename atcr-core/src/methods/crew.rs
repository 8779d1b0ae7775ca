use serde::{Deserialize, Serialize};

use super::{Nothing, method};
use crate::records::{Permissions, Role, open_enum};
use crate::syntax::{AtUri, Did};

method! {
    /// Enrols the caller as crew: anyone where the hold allows all crew, else only the captain.
    RequestCrew, "io.atcr.hold.requestCrew", Procedure,
    (Nothing, RequestCrewInput) -> RequestCrewOutput, [AUTH_REQUIRED, REGISTRATION_DISABLED]
}

method! {
    /// Moves a member to another tier; called by the AppView that the hold trusts, in its own name.
    UpdateCrewTier, "io.atcr.hold.updateCrewTier", Procedure,
    (Nothing, UpdateCrewTierInput) -> UpdateCrewTierOutput, [AUTH_REQUIRED, USER_NOT_FOUND]
}

/// Input of [`RequestCrew`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCrewInput {
    /// The role asked for; `None` is [`Role::Member`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The permissions asked for; `None` is [`Permissions::member`]. A hold gives no more than it wants to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
}

/// Output of [`RequestCrew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCrewOutput {
    /// Whether there is a new record.
    pub status: RequestCrewStatus,
    /// The record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<AtUri>,
    /// Its CID, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// What to tell the user, in at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

open_enum! {
    /// How a request to enrol ended.
    pub enum RequestCrewStatus {
        /// The caller is crew now.
        Created = "created",
        /// The caller was crew before.
        AlreadyMember = "already_member",
    }
}

/// Input of [`UpdateCrewTier`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateCrewTierInput {
    /// The member.
    pub user_did: Did,
    /// The place of the tier in the hold's own list, from 0.
    pub tier_rank: u32,
}

/// Output of [`UpdateCrewTier`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateCrewTierOutput {
    /// The name of the tier at this hold, at most 64 bytes.
    pub tier_name: String,
}
