use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use serde_json::Value;

use super::WebSignIn;

/// Who this registry is, at either path.
pub(super) async fn metadata(State(this): State<WebSignIn>, uri: Uri) -> Response {
    let Some(client) = this.sessions.oauth() else { return StatusCode::NOT_FOUND.into_response() };
    // The loopback client is known to servers without a document.
    if client.registration().is_loopback() {
        return StatusCode::NOT_FOUND.into_response();
    }
    public(client.registration().metadata(uri.path()))
}

/// The keys of this registry.
pub(super) async fn jwks(State(this): State<WebSignIn>) -> Response {
    match this.sessions.oauth().and_then(|client| client.registration().keys()) {
        Some(keys) => public(keys.jwks()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn public(document: Value) -> Response {
    let headers =
        [(header::CACHE_CONTROL, "public, max-age=300"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, Json(document)).into_response()
}
