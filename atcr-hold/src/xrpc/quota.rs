use atcr_core::AUDIT;
use atcr_core::methods::{
    GetQuotaOutput, ListTiersOutput, Method as _, Tier, UpdateCrewTier, UpdateCrewTierOutput, error_name,
};
use atcr_core::syntax::Did;
use atcr_pds::xrpc::{Params, XrpcError};
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

use super::input::call;
use crate::Hold;
use crate::access::Use;

pub(super) async fn quota(
    State(hold): State<Hold>,
    params: Params,
) -> Result<Json<GetQuotaOutput>, XrpcError> {
    let user: String = params.required("userDid")?;
    let user_did: Did =
        user.parse().map_err(|e| XrpcError::bad(error_name::INVALID_USER_DID, format!("userDid: {e}")))?;
    hold.inner.repo.refresh_index().await?;
    let usage = hold.inner.uploads.usage_of(&user_did).await?;
    let tier = hold.inner.roster.tier(&user_did).await?;
    Ok(Json(GetQuotaOutput {
        user_did,
        unique_blobs: usage.blobs,
        total_size: usage.bytes,
        limit: tier.and_then(|tier| tier.limit),
        tier: tier.map(|tier| tier.name.clone()),
    }))
}

pub(super) async fn tiers(State(hold): State<Hold>) -> Json<ListTiersOutput> {
    let tiers = hold.inner.roster.tiers().all().iter().map(|tier| Tier {
        name: tier.name.clone(),
        limit: tier.limit,
        features: tier.features.clone(),
    });
    Json(ListTiersOutput { tiers: tiers.collect() })
}

/// `io.atcr.hold.updateCrewTier`, for the AppView that the hold trusts. It calls as itself.
pub(super) async fn update_tier(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<UpdateCrewTierOutput>, XrpcError> {
    let (caller, input) = call::<UpdateCrewTier>(&hold, request, Use::Once).await?;
    if hold.inner.appview.as_ref() != Some(&caller) {
        let message =
            format!("{} is for the AppView that this hold trusts; {caller} is not", UpdateCrewTier::NSID);
        return Err(XrpcError::new(StatusCode::FORBIDDEN, error_name::AUTH_REQUIRED, message));
    }
    let tiers = hold.inner.roster.tiers().all();
    let tier = usize::try_from(input.tier_rank).ok().and_then(|rank| tiers.get(rank)).ok_or_else(|| {
        XrpcError::invalid_request(format!("this hold has {} tiers, counted from 0", tiers.len()))
    })?;
    if !hold.inner.roster.set_tier(&input.user_did, tier).await? {
        let message = format!("{} is not crew of this hold", input.user_did);
        return Err(XrpcError::new(StatusCode::NOT_FOUND, error_name::USER_NOT_FOUND, message));
    }
    tracing::info!(target: AUDIT, event = "crew_tier_set", did = %caller, member = %input.user_did, tier = tier.name);
    Ok(Json(UpdateCrewTierOutput { tier_name: tier.name.clone() }))
}
