//! `/v2/<name>/tags/list` (distribution specification, Listing Tags).

use atcr_core::Access;
use atcr_core::oci::{RepositoryName, Tag};
use axum::response::Response;
use serde::Serialize;

use super::call::Call;
use super::error::{About, ApiError};
use super::page;

/// `TagList` of `oci-spec`, borrowed.
#[derive(Serialize)]
struct TagList<'a> {
    name: &'a RepositoryName,
    tags: &'a [Tag],
}

pub(crate) async fn list(call: &Call, access: &Access) -> Result<Response, ApiError> {
    let page = page::asked_for(call, call.shared.limits.tags_page)?;
    let listing = call.shared.manifests.tags(access, &page).await;
    let listing = listing.map_err(|error| ApiError::store(About::Name, error))?;
    let name = &access.repository;
    let body = serde_json::to_vec(&TagList { name, tags: &listing.items });
    let body = body.map_err(|error| ApiError::internal(error.into()))?;
    Ok(page::json(body, page::next(&format!("/v2/{name}/tags/list"), &page, &listing)))
}
