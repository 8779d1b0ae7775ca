//! Pages that need no script, show nothing of a stranger's unescaped, and stand in no frame.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use url::{Host, Url};

use super::client::Client;
use crate::accounts::store::Account;

/// The longest name of a client that is shown, in characters.
const MAX_NAME: usize = 80;

/// A client as it is shown: what it calls itself, and where it really comes from.
pub(super) struct ClientName {
    name: String,
    origin: String,
    uri: String,
}

impl ClientName {
    pub(super) fn of(client: &Client) -> Self {
        let origin = client.origin();
        let name: String =
            client.name.as_deref().unwrap_or_default().chars().filter(|c| is_visible(*c)).collect();
        let name: String = name.trim().chars().take(MAX_NAME).collect();
        let uri = client.uri.as_ref().map(ToString::to_string).unwrap_or_default();
        Self { name: if name.is_empty() { origin.clone() } else { name }, origin, uri }
    }
}

/// Not a control character, nor one that turns the direction of the text around it.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What every form carries along.
pub(super) struct Hidden<'a> {
    pub(super) client_id: &'a str,
    pub(super) request_uri: &'a str,
    pub(super) csrf: String,
    pub(super) query: String,
}

/// The page to log in.
#[derive(Template)]
#[template(path = "oauth/sign_in.html")]
pub(super) struct SignIn<'a> {
    pub(super) client: ClientName,
    pub(super) hidden: Hidden<'a>,
    pub(super) identifier: &'a str,
    pub(super) error: &'a str,
    pub(super) remembered: &'a [Account],
}

/// The page to agree.
#[derive(Template)]
#[template(path = "oauth/consent.html")]
pub(super) struct Consent<'a> {
    pub(super) client: ClientName,
    pub(super) hidden: Hidden<'a>,
    pub(super) account: &'a Account,
    pub(super) sentences: Vec<String>,
}

#[derive(Template)]
#[template(path = "oauth/form_post.html")]
struct FormPost<'a> {
    action: &'a str,
    pairs: &'a [(&'static str, String)],
}

#[derive(Template)]
#[template(path = "oauth/problem.html")]
struct Problem<'a> {
    message: &'a str,
}

/// The page, with a form of which the browser may be sent on to `target`.
pub(super) fn show(status: StatusCode, page: &impl Template, target: &str) -> Response {
    respond(status, page, &source(target))
}

/// Says what went wrong, and sends nobody anywhere.
pub(super) fn problem(status: StatusCode, message: &str) -> Response {
    respond(status, &Problem { message }, "")
}

/// A form that brings the answer to the client (OAuth 2.0 Form Post Response Mode).
pub(super) fn form_post(action: &Url, pairs: &[(&'static str, String)]) -> Response {
    respond(StatusCode::OK, &FormPost { action: action.as_str(), pairs }, &source(action.as_str()))
}

/// A URL as a source of a content security policy. IPv6 addresses cannot stand there.
fn source(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if matches!(url.host(), Some(Host::Ipv6(_))) || !matches!(url.scheme(), "http" | "https") => {
            format!(" {}:", url.scheme())
        }
        Ok(url) => format!(" {}", url.origin().ascii_serialization()),
        Err(_) => String::new(),
    }
}

fn respond(status: StatusCode, page: &impl Template, target: &str) -> Response {
    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    let policy = format!(
        "default-src 'none'; style-src 'self'; form-action 'self'{target}; base-uri 'none'; frame-ancestors 'none'"
    );
    let (Ok(html), Ok(policy)) = (page.render(), HeaderValue::try_from(policy)) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made").into_response();
    };
    let headers = [
        (CONTENT_TYPE, HTML),
        (CONTENT_SECURITY_POLICY, policy),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Without any referrer a browser would not say that a form comes from here.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, html).into_response()
}

pub(super) async fn style() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    (headers, include_str!("../../../templates/oauth/style.css")).into_response()
}
