//! The stylesheet and the script, under names that change with what is in them.

use std::sync::LazyLock;

use atcr_core::oci::Digest;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};

use super::ui::WebUi;

const STYLE: &str = include_str!("../../templates/style.css");
const SCRIPT: &str = include_str!("../../templates/script.js");
const ICON: &str = include_str!("../../templates/icon.svg");

/// Where the stylesheet is.
pub(super) static STYLE_PATH: LazyLock<String> = LazyLock::new(|| path(STYLE, "css"));
/// Where the script is.
pub(super) static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| path(SCRIPT, "js"));

fn path(content: &str, extension: &str) -> String {
    format!("/assets/{:.16}.{extension}", Digest::sha256(content.as_bytes()).hex())
}

/// `/assets/{name}`
pub(super) async fn serve(State(ui): State<WebUi>, Path(name): Path<String>) -> Response {
    let is = |path: &str| path.strip_prefix("/assets/") == Some(name.as_str());
    let (content, media_type): (Bytes, _) = if is(&STYLE_PATH) {
        (STYLE.into(), "text/css; charset=utf-8")
    } else if is(&SCRIPT_PATH) {
        (SCRIPT.into(), "text/javascript; charset=utf-8")
    } else if name == "icon.svg" {
        (ICON.into(), "image/svg+xml")
    } else if let Some(file) = ui.brand().file(&name) {
        file
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // A picture that is opened by itself can do nothing either.
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, content).into_response()
}
