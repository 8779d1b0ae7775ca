use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::error::PageError;
use super::page::{Visitor, html};
use super::ui::WebUi;

#[derive(Template)]
#[template(path = "install.html")]
struct Install<'a> {
    owner: String,
    visitor: Visitor,
    host: &'a str,
}

/// `/install`
pub(super) async fn show(State(ui): State<WebUi>, headers: HeaderMap) -> Result<Response, PageError> {
    let visitor = ui.visitor(&headers).await?;
    let owner = visitor.who.clone().unwrap_or_else(|| "alice.example".to_owned());
    html(StatusCode::OK, &Install { owner, visitor, host: ui.host() })
}
