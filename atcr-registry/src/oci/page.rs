//! Lists that come in pages (distribution specification, Listing Tags).

use atcr_core::manifest_store::{Listing, Page};
use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, LINK};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::call::Call;
use super::error::{ApiError, ErrorCode};

/// What stands for itself in the value of a query parameter.
const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

pub(crate) fn encode(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, QUERY_VALUE)
}

/// The number that `n` asks for, if it is there.
pub(crate) fn wanted(call: &Call) -> Result<Option<usize>, ApiError> {
    call.query("n")
        .map(|n| {
            n.parse().map_err(|_| {
                let message = format!("n={n:?} is not a number of entries: it is 0 or more");
                ApiError::bad_request(ErrorCode::Unsupported, message)
            })
        })
        .transpose()
}

/// The page that `n` and `last` ask for, of at most `most` entries.
pub(crate) fn asked_for(call: &Call, most: usize) -> Result<Page, ApiError> {
    let limit = wanted(call)?.map_or(most, |n| n.min(most));
    Ok(Page { limit: Some(limit), after: call.query("last").map(str::to_owned) })
}

/// The `Link` header to the page after this one, if there is one.
pub(crate) fn next<T: AsRef<str>>(path: &str, page: &Page, listing: &Listing<T>) -> Option<String> {
    let last = listing.items.last().filter(|_| listing.more)?;
    let n = page.limit.unwrap_or(listing.items.len());
    Some(format!("<{path}?n={n}&last={}>; rel=\"next\"", encode(last.as_ref())))
}

pub(crate) fn json(body: impl Into<Body>, link: Option<String>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        headers.insert(LINK, link);
    }
    response
}
