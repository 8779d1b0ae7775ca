//! `/v2/_catalog`: the repositories that the caller can push to.

use atcr_core::Principal;
use axum::response::Response;
use serde_json::json;

use super::call::Call;
use super::error::{About, ApiError};
use super::page;

pub(crate) async fn list(call: &Call, principal: &Principal) -> Result<Response, ApiError> {
    let page = page::asked_for(call, call.shared.limits.tags_page)?;
    let listing = call.shared.manifests.repositories(principal, &page).await;
    let listing = listing.map_err(|error| ApiError::store(About::Name, error))?;
    let body = json!({ "repositories": listing.items }).to_string();
    Ok(page::json(body, page::next("/v2/_catalog", &page, &listing)))
}
