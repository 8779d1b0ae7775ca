use serde::{Deserialize, Serialize};

use super::{Nothing, method, null_is_default};
use crate::syntax::Did;

method! {
    /// How much a user stores; asked by anyone.
    GetQuota, "io.atcr.hold.getQuota", Query,
    (GetQuotaParams, Nothing) -> GetQuotaOutput, [INVALID_USER_DID]
}

method! {
    /// The tiers that the hold has, lowest first; asked by anyone.
    ///
    /// Upstream has the method but has published no schema, so this one is atcr's and every field of an answer may
    /// be missing.
    ListTiers, "io.atcr.hold.listTiers", Query, (Nothing, Nothing) -> ListTiersOutput, []
}

/// Parameters of [`GetQuota`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetQuotaParams {
    /// The user.
    pub user_did: Did,
}

/// Output of [`GetQuota`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetQuotaOutput {
    /// The user.
    pub user_did: Did,
    /// How many different blobs.
    pub unique_blobs: u64,
    /// How many bytes they have together.
    pub total_size: u64,
    /// How many bytes are allowed; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The user's tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

/// Output of [`ListTiers`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTiersOutput {
    /// The tiers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tiers: Vec<Tier>,
}

/// A tier of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// How many bytes it allows; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What else it gives.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}
