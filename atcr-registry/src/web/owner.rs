use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::error::PageError;
use super::page::{Cards, Visitor, html};
use super::path;
use super::ui::WebUi;
use crate::index::PageRequest;

#[derive(Template)]
#[template(path = "owner.html")]
struct AccountPage {
    visitor: Visitor,
    owner: String,
    did: String,
    pds: Option<String>,
    starred: bool,
    list: Cards,
}

#[derive(Deserialize)]
pub(super) struct Ask {
    show: Option<String>,
    cursor: Option<String>,
}

/// `/u/{owner}`
pub(super) async fn show(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
    Query(ask): Query<Ask>,
    visitor: Visitor,
) -> Result<Response, PageError> {
    let account = path::account(&ui, &owner).await?;
    let page = PageRequest { limit: Some(20), cursor: ask.cursor };
    let starred = ask.show.as_deref() == Some("stars");
    let listed = if starred {
        ui.index().starred_by(&account.did, &page).await?
    } else {
        ui.index().repositories_of(&account.did, &page).await?
    };
    let owner = path::called(&account);
    let show = if starred { "stars" } else { "repositories" };
    let list =
        Cards::new(listed, |cursor| format!("/u/{}?show={show}&cursor={cursor}", path::segment(&owner)));
    let page =
        AccountPage { visitor, did: account.did.to_string(), pds: account.pds.clone(), owner, starred, list };
    html(StatusCode::OK, &page)
}
