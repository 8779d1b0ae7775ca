use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use url::form_urlencoded;

use super::error::PageError;
use super::page::{Cards, Visitor, html};
use super::ui::WebUi;
use crate::index::PageRequest;

#[derive(Template)]
#[template(path = "search.html")]
struct Search {
    visitor: Visitor,
    query: String,
    list: Cards,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    q: String,
    cursor: Option<String>,
}

/// `/search`
pub(super) async fn show(
    State(ui): State<WebUi>,
    Query(ask): Query<Ask>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let page = PageRequest { limit: Some(20), cursor: ask.cursor };
    let listed = ui.index().search(&ask.q, &page).await?;
    let list = Cards::new(listed, |cursor| {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("q", &ask.q)
            .append_pair("cursor", cursor)
            .finish();
        format!("/search?{query}")
    });
    html(StatusCode::OK, &Search { visitor, query: ask.q, list })
}
