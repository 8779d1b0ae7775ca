//! What a hold answers over HTTP.

mod blob;
mod crew;
mod error;
mod input;
mod manifest;
mod quota;
mod range;
mod upload;

use atcr_core::methods::{
    AbortUpload, CompleteUpload, DeleteBlob, GetLayersForManifest, GetPartUploadUrl, GetQuota,
    InitiateUpload, ListTiers, Method as _, NotifyManifest, RequestCrew, UpdateCrewTier, UploadPart,
};
use atcr_pds::xrpc::{procedure, query};
use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::routing::{get, put};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LOCATION};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::Hold;

/// All routes. Those of the hold come before those of its PDS, of which they replace `getBlob`.
pub(crate) fn router(hold: &Hold) -> Router {
    let path = |nsid: &str| format!("/xrpc/{nsid}");
    // Pages of every origin may call: tokens travel in headers, never in cookies.
    let exposed = [ETAG, LOCATION, CONTENT_RANGE, ACCEPT_RANGES, CONTENT_LENGTH, DOCKER_CONTENT_DIGEST];
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed);
    Router::new()
        .route(&path(InitiateUpload::NSID), procedure(upload::initiate))
        .route(&path(GetPartUploadUrl::NSID), procedure(upload::part_url))
        .route(&path(UploadPart::NSID), put(upload::part).post(upload::part))
        .route(&path(CompleteUpload::NSID), procedure(upload::complete))
        .route(&path(AbortUpload::NSID), procedure(upload::abort))
        .route(&path(DeleteBlob::NSID), procedure(blob::delete))
        .route(&path(NotifyManifest::NSID), procedure(manifest::notify))
        .route(&path(GetLayersForManifest::NSID), query(manifest::layers))
        .route(&path(RequestCrew::NSID), procedure(crew::request))
        .route(&path(GetQuota::NSID), query(quota::quota))
        .route(&path(ListTiers::NSID), query(quota::tiers))
        .route(&path(UpdateCrewTier::NSID), procedure(quota::update_tier))
        .route("/xrpc/com.atproto.sync.getBlob", query(blob::get_blob))
        .route("/.well-known/atproto-did", get(own_did))
        .layer(cors)
        .with_state(hold.clone())
        .fallback_service(hold.inner.pds.clone())
}

/// The digest of a blob, as registries send it.
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The hold is the only account here, by whatever name it is reached.
async fn own_did(State(hold): State<Hold>) -> String {
    hold.did().to_string()
}
