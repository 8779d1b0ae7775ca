use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use super::error::PageError;
use super::path;
use super::ui::WebUi;
use super::words::{self, Moment};
use crate::index::PageRequest;

/// How many moves a feed has.
const EACH: usize = 50;

/// An Atom feed (RFC 4287).
#[derive(Template)]
#[template(path = "feed.xml")]
struct Feed {
    title: String,
    summary: String,
    own: String,
    page: String,
    owner: String,
    updated: Moment,
    entries: Vec<Entry>,
}

struct Entry {
    id: String,
    link: String,
    tag: String,
    digest: Option<String>,
    at: Moment,
}

/// `/feed/{owner}/{repository}`: where the tags of a repository went, for readers of feeds.
pub(super) async fn show(
    State(ui): State<WebUi>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let account = path::account(&ui, &owner).await?;
    let name = path::repository(&name)?;
    let Some(entry) = ui.index().repository(&account.did, &name).await? else {
        return Err(PageError::NotFound(format!("There is no repository called {name}.")));
    };
    let moves = ui.index().history(&account.did, &name, None, &PageRequest::first(EACH)).await?.items;
    let page = ui.address(&path::of_repository(&account, &name));
    let owner = path::called(&account);
    let feed = Feed {
        title: format!("{owner}/{name}"),
        // XML has no way to write a control character.
        summary: words::first_line(entry.description.as_deref().unwrap_or_default())
            .replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), " "),
        own: ui.address(&format!("/feed/{}/{name}", path::segment(&owner))),
        updated: Moment::new(moves.first().map_or(entry.last_push, |moved| moved.at)),
        entries: moves
            .into_iter()
            .map(|moved| Entry {
                // The same for ever, whatever the owner is called.
                id: format!(
                    "at://{}/io.atcr.tag?repository={name}&tag={}&rev={}",
                    account.did, moved.tag, moved.rev
                ),
                link: match &moved.digest {
                    Some(digest) => format!("{page}@{digest}"),
                    None => page.clone(),
                },
                tag: moved.tag.to_string(),
                digest: moved.digest.map(|digest| digest.to_string()),
                at: Moment::new(moved.at),
            })
            .collect(),
        page,
        owner,
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/atom+xml; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=60")),
    ];
    Ok((headers, feed.render()?).into_response())
}
