use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use super::error::PageError;
use super::page::{Visitor, html};
use super::ui::WebUi;

#[derive(Template)]
#[template(path = "install.html")]
struct Install<'a> {
    owner: String,
    visitor: Visitor,
    host: &'a str,
    base: String,
}

/// `/install`
pub(super) async fn show(State(ui): State<WebUi>, visitor: Visitor) -> Result<Response, PageError> {
    let owner = visitor.who.clone().unwrap_or_else(|| "alice.example".to_owned());
    let host = ui.host_for(ui.profile_of(&visitor).await?.as_ref());
    html(StatusCode::OK, &Install { owner, visitor, host, base: ui.address("") })
}

/// `/install.sh`
pub(super) async fn shell(State(ui): State<WebUi>) -> Response {
    script(include_str!("../../templates/install.sh"), ui.host())
}

/// `/install.ps1`
pub(super) async fn powershell(State(ui): State<WebUi>) -> Response {
    script(include_str!("../../templates/install.ps1"), ui.host())
}

/// A script, with the name of the registry in it.
fn script(text: &str, host: &str) -> Response {
    // Nothing that a shell reads as anything but a word.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let host: String = host.chars().filter(|c| plain(*c)).collect();
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, text.replace("REGISTRY_HOST", &host)).into_response()
}
