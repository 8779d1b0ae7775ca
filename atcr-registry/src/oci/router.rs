//! From a request to the endpoint that answers it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Request;

use crate::registry::{Registry, Shared};

/// `/v2/` and everything below it.
pub(crate) fn router(registry: Registry) -> axum::Router {
    axum::Router::new()
        .route_service("/v2", registry.clone())
        .route_service("/v2/", registry.clone())
        .route_service("/v2/{*rest}", registry)
}

pub(crate) async fn handle(shared: Arc<Shared>, request: Request<Body>) -> Response {
    let _ = (shared, request);
    std::future::ready(Response::new(Body::empty())).await
}
