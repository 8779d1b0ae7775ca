use atcr_core::methods::{GetQuotaOutput, ListTiersOutput, error_name};
use atcr_core::syntax::Did;
use atcr_pds::xrpc::{Params, XrpcError};
use axum::Json;
use axum::extract::State;

use crate::Hold;

pub(super) async fn quota(
    State(hold): State<Hold>,
    params: Params,
) -> Result<Json<GetQuotaOutput>, XrpcError> {
    let user: String = params.required("userDid")?;
    let user_did: Did =
        user.parse().map_err(|e| XrpcError::bad(error_name::INVALID_USER_DID, format!("userDid: {e}")))?;
    let usage = hold.inner.repo.usage_of(&user_did).await?;
    let tier = hold.inner.roster.tier(&user_did).await?;
    Ok(Json(GetQuotaOutput {
        user_did,
        unique_blobs: usage.blobs,
        total_size: usage.bytes,
        limit: None,
        tier,
    }))
}

/// This hold has no tiers, so no limits.
pub(super) async fn tiers() -> Json<ListTiersOutput> {
    Json(ListTiersOutput::default())
}
