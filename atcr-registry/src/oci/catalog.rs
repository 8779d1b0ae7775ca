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
    let next = page::next("/v2/_catalog", &page, &listing);
    // A store may know no owners. A page with fewer names than it could have is not the last one while it has a link.
    let mut repositories = Vec::with_capacity(listing.items.len());
    for name in listing.items {
        if call.may_pull(&name).await {
            repositories.push(name);
        }
    }
    Ok(page::json(json!({ "repositories": repositories }).to_string(), next))
}
