//! The way back to the client.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use super::pages;
use super::request::{Parameters, ResponseMode};
use crate::accounts::Pds;

/// What the client is told.
#[derive(Debug)]
pub(super) enum Outcome {
    Code(String),
    Error { error: &'static str, description: &'static str },
}

/// Sends the browser back to the client, to where the request said, which was checked against what the client has
/// registered (RFC 6749 section 4.1.2, RFC 9207).
pub(super) fn back_to_client(pds: &Pds, parameters: &Parameters, outcome: Outcome) -> Response {
    let mut pairs = vec![("iss", pds.issuer().to_owned())];
    if let Some(state) = &parameters.state {
        pairs.push(("state", state.clone()));
    }
    match outcome {
        Outcome::Code(code) => pairs.push(("code", code)),
        Outcome::Error { error, description } => {
            pairs.push(("error", error.to_owned()));
            pairs.push(("error_description", description.to_owned()));
        }
    }
    // Checked when the request was pushed.
    let Ok(mut url) = Url::parse(&parameters.redirect_uri) else {
        return pages::problem(StatusCode::BAD_REQUEST, "The place to go back to is not an address.");
    };
    match parameters.response_mode {
        ResponseMode::Query => {
            url.query_pairs_mut().extend_pairs(&pairs);
        }
        ResponseMode::Fragment => {
            let fragment = Serializer::new(String::new()).extend_pairs(&pairs).finish();
            url.set_fragment(Some(&fragment));
        }
        ResponseMode::FormPost => return pages::form_post(&url, &pairs),
    }
    let Ok(location) = HeaderValue::try_from(url.as_str()) else {
        return pages::problem(StatusCode::BAD_REQUEST, "The place to go back to is not an address.");
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}
