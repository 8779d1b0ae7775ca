use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::error::PageError;
use super::page::{Cards, Visitor, html};
use super::ui::WebUi;
use crate::index::PageRequest;

/// How many repositories a part of a list has.
const EACH: usize = 20;

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    visitor: Visitor,
    host: &'a str,
    sort: &'static str,
    list: Cards,
    is_first: bool,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    sort: Option<String>,
    cursor: Option<String>,
}

/// `/`
pub(super) async fn show(
    State(ui): State<WebUi>,
    Query(ask): Query<Ask>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let is_first = ask.cursor.is_none();
    let page = PageRequest { limit: Some(EACH), cursor: ask.cursor };
    let (sort, listed) = match ask.sort.as_deref() {
        Some("popular") => ("popular", ui.index().popular(&page).await?),
        _ => ("recent", ui.index().recent(&page).await?),
    };
    let list = Cards::new(listed, |cursor| format!("/?sort={sort}&cursor={cursor}"));
    let host = ui.host_for(ui.profile_of(&visitor).await?.as_ref());
    html(StatusCode::OK, &Home { visitor, host, sort, list, is_first })
}
