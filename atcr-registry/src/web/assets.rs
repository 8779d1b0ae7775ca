//! The stylesheet and the script, under names that change with what is in them.

use std::sync::LazyLock;

use atcr_core::oci::Digest;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};

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
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let is = |path: &str| path.strip_prefix("/assets/") == Some(name.as_str());
    let (content, media_type) = if is(&STYLE_PATH) {
        (STYLE, "text/css; charset=utf-8")
    } else if is(&SCRIPT_PATH) {
        (SCRIPT, "text/javascript; charset=utf-8")
    } else if name == "icon.svg" {
        (ICON, "image/svg+xml")
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, content).into_response()
}
