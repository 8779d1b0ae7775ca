//! What all pages have in common.

use std::sync::Arc;

use askama::Template;
use atcr_core::syntax::Did;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;

use super::assets;
use super::brand::Brand;
use super::error::PageError;
use super::path;
use super::ui::WebUi;
use super::visitors::Person;
use super::words;
use crate::index::{Listed, RepositoryEntry};

/// What the frame of a page says about whoever looks at it.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) registry: String,
    /// Where they sign in and come back to this page; `None` where nobody can.
    pub(super) sign_in: Option<String>,
    pub(super) sign_out: String,
    /// Their handle, or their DID where that is not known.
    pub(super) who: Option<String>,
    pub(super) person: Option<Person>,
    pub(super) brand: Arc<Brand>,
    pub(super) style: &'static str,
    /// The stylesheet that has the registry's own colour.
    pub(super) accent: Option<String>,
    pub(super) script: &'static str,
}

impl Visitor {
    /// Somebody of whom nothing is known.
    fn new(ui: &WebUi) -> Self {
        let brand = Arc::clone(ui.brand());
        Self {
            registry: brand.name.clone(),
            sign_in: None,
            sign_out: String::new(),
            who: None,
            person: None,
            accent: brand.style().map(|style| format!("/assets/{}", style.name)),
            brand,
            style: assets::STYLE_PATH.as_str(),
            script: assets::SCRIPT_PATH.as_str(),
        }
    }

    /// Whoever sent this, for a page that is made even when nobody can be told from nobody.
    pub(super) async fn or_nobody(parts: &mut Parts, ui: &WebUi) -> Self {
        Self::from_request_parts(parts, ui).await.unwrap_or_else(|_| Self::new(ui))
    }

    /// The address of their own page.
    pub(super) fn own_page(&self) -> String {
        format!("/u/{}", path::segment(self.who.as_deref().unwrap_or_default()))
    }

    /// What the forms on the page carry.
    pub(super) fn csrf(&self) -> &str {
        self.person.as_ref().map_or("", |person| &person.form_token)
    }

    pub(super) fn is(&self, did: &Did) -> bool {
        self.person.as_ref().is_some_and(|person| person.did == *did)
    }
}

impl FromRequestParts<WebUi> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, ui: &WebUi) -> Result<Self, PageError> {
        let mut visitor = Self::new(ui);
        if let Some(visitors) = ui.visitors() {
            let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            visitor.sign_in = Some(visitors.sign_in_path(here));
            visitors.sign_out_path().clone_into(&mut visitor.sign_out);
            visitor.person = visitors.signed_in(&parts.headers).await?;
            visitor.who = visitor.person.as_ref().map(Person::name);
        }
        Ok(visitor)
    }
}

/// A hold, and since when it does not answer.
pub(super) struct HoldState {
    pub(super) did: String,
    pub(super) down: Option<words::Moment>,
}

impl HoldState {
    pub(super) fn new(ui: &WebUi, hold: &Did) -> Self {
        let down = ui.health(hold).filter(|health| !health.answers);
        Self { did: hold.to_string(), down: down.map(|health| words::Moment::new(health.since)) }
    }
}

/// A repository in a list.
pub(super) struct Card {
    pub(super) address: String,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) pushed: words::Moment,
    pub(super) stars: String,
    pub(super) pulls: String,
}

impl From<RepositoryEntry> for Card {
    fn from(entry: RepositoryEntry) -> Self {
        let owner = entry.handle.map_or_else(|| entry.owner.to_string(), |handle| handle.to_string());
        Self {
            address: format!("/r/{}/{}", path::segment(&owner), entry.name),
            owner,
            name: entry.name.to_string(),
            description: words::first_line(entry.description.as_deref().unwrap_or_default()),
            pushed: words::Moment::new(entry.last_push),
            stars: words::counted(entry.stars, "star"),
            pulls: words::counted(entry.pulls, "pull"),
        }
    }
}

/// A part of a list of repositories, and the link to the next one.
pub(super) struct Cards {
    pub(super) cards: Vec<Card>,
    pub(super) next: Option<String>,
}

impl Cards {
    /// `link` makes the address of the part that a cursor names.
    pub(super) fn new(listed: Listed<RepositoryEntry>, link: impl FnOnce(&str) -> String) -> Self {
        Self {
            cards: listed.items.into_iter().map(Card::from).collect(),
            next: listed.next.as_deref().map(link),
        }
    }
}

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The answer with a page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Result<Response, PageError> {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        // It says who is signed in.
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    Ok((status, headers, page.render()?).into_response())
}
