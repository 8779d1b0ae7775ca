//! Pages that need no script, escape whatever they show, and stand in no frame.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};

/// Where the forms of a page lead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Forms {
    /// To this registry.
    Here,
    /// To this registry, which sends the browser on to somebody's PDS.
    Onwards {
        /// The PDS may be on this machine, without https.
        development: bool,
    },
}

/// A page that says what went wrong, and what to do.
#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct Problem<'a> {
    pub(crate) title: &'a str,
    pub(crate) message: &'a str,
    /// A path where to try again, if that may help.
    pub(crate) again: Option<&'a str>,
}

/// The answer with a page.
pub(crate) fn show(status: StatusCode, page: &impl Template, forms: Forms) -> Response {
    // Chromium holds a form's redirects to the policy too.
    let policy = match forms {
        Forms::Here => {
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        }
        Forms::Onwards { development: false } => {
            "default-src 'none'; style-src 'self'; form-action 'self' https:; base-uri 'none'; frame-ancestors 'none'"
        }
        Forms::Onwards { development: true } => {
            "default-src 'none'; style-src 'self'; form-action 'self' https: http:; base-uri 'none'; frame-ancestors 'none'"
        }
    };
    let Ok(html) = page.render() else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made").into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Without any referrer a browser would not say that a form comes from here.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, html).into_response()
}

/// `/auth/style.css`
pub(crate) async fn style() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    (headers, include_str!("../../templates/style.css")).into_response()
}
