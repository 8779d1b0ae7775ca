use std::time::Duration;

use atcr_core::syntax::AtIdentifier;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::WebSignIn;
use super::pages::SignInPage;
use super::problem::Problem;
use crate::browser::{LOGIN, ReturnTo, Secret};
use crate::clock::whole_seconds;
use crate::oauth::{Ask, Pending};
use crate::pages::{self, Forms};
use crate::pds_session::parse_identifier;

/// How long somebody may take at their server.
const LIFETIME: Duration = Duration::from_secs(600);
pub(super) const STATE: &str = "state";
/// Where one comes to who has not said where to.
const DEFAULT: &str = "/auth/account";

/// The query of a sign-in.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Login {
    handle: String,
    return_to: String,
}

/// What is kept until the browser comes back.
#[derive(Serialize, Deserialize)]
pub(super) struct Underway {
    pub(super) pending: Pending,
    pub(super) return_to: String,
    /// The hash of the browser's secret.
    pub(super) browser: [u8; 32],
}

pub(super) async fn begin(
    State(this): State<WebSignIn>,
    Query(login): Query<Login>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Response {
    if let Some(elsewhere) = this.canonical(&headers, &login) {
        return see_other(&elsewhere);
    }
    let base = this.sessions.oauth().map(|client| client.registration().base().clone());
    let Some(base) = base else { return Problem::NotConfigured.page() };
    let return_to = ReturnTo::parse(&login.return_to, &base).unwrap_or_else(|| ReturnTo::fixed(DEFAULT));
    if login.handle.trim().is_empty() {
        return this.form(StatusCode::OK, "", &return_to, None);
    }
    let identifier = match parse_identifier(&login.handle) {
        Ok(identifier) => identifier,
        Err(error) => {
            return this.form(StatusCode::BAD_REQUEST, &login.handle, &return_to, Some(&error.to_string()));
        }
    };
    if let Some(address) = this.proxies.counted(&extensions, &headers) {
        match this.begun.begin(&address).await {
            // Whatever comes of it: it makes this machine ask servers that a stranger names.
            Ok(attempt) => attempt.counts(),
            Err(wait) => return Problem::TooMany(wait).page(),
        }
    }
    match this.start(&identifier, &return_to, None, &headers).await {
        Ok(response) => response,
        // Most of these are typing errors: the form comes back with what was typed.
        Err(Problem::Identity(error)) => {
            this.form(StatusCode::BAD_REQUEST, &login.handle, &return_to, Some(&error.to_string()))
        }
        Err(problem) => problem.page(),
    }
}

impl WebSignIn {
    /// Sends the browser to the server of this account.
    pub(super) async fn start(
        &self,
        identifier: &AtIdentifier,
        return_to: &ReturnTo,
        ask: Option<Ask>,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let client = self.sessions.oauth().ok_or(Problem::NotConfigured)?;
        let _turn = self.beginning.try_acquire().map_err(|_| Problem::Busy)?;
        let account = self.sessions.identities().resolve(identifier).await?;
        let state = Secret::random().map_err(|_| Problem::Random)?;
        // One name for a browser that signs in in several windows at once.
        let browser = match self.cookie.read(headers) {
            Some(browser) => browser,
            None => Secret::random().map_err(|_| Problem::Random)?,
        };
        let (url, pending) = client.begin(&account, &state.text(), ask).await?;
        let underway =
            Underway { pending, return_to: return_to.as_str().to_owned(), browser: browser.row("sign-in").0 };
        let value = serde_json::to_vec(&underway).map_err(|_| Problem::NotConfigured)?;
        let (now, lifetime) = (self.clock.unix(), whole_seconds(LIFETIME));
        self.store
            .keep(state.row(STATE), Some(&account.did), &value, now, now.saturating_add(lifetime))
            .await?;
        let mut response = see_other(url.as_str());
        response.headers_mut().insert(header::SET_COOKIE, self.cookie.set(&browser, lifetime));
        Ok(response)
    }

    fn form(&self, status: StatusCode, handle: &str, return_to: &ReturnTo, error: Option<&str>) -> Response {
        let handle: String = handle.chars().take(256).collect();
        let page = SignInPage { handle: &handle, return_to: return_to.as_str(), error };
        let development = self.sessions.oauth().is_some_and(|client| client.registration().is_loopback());
        pages::show(status, &page, Forms::Onwards { development })
    }

    /// Where a browser has to begin that uses another name of this machine than the one that it will come back to:
    /// its cookies belong to the name.
    fn canonical(&self, headers: &HeaderMap, login: &Login) -> Option<String> {
        let registration = self.sessions.oauth()?.registration();
        let host = headers.get(header::HOST)?.to_str().ok()?;
        let used: Url = format!("http://{host}").parse().ok()?;
        if !registration.is_loopback() || used.host_str() != Some("localhost") {
            return None;
        }
        let mut url = registration.base().join(LOGIN).ok()?;
        url.query_pairs_mut().append_pair("handle", &login.handle).append_pair("return_to", &login.return_to);
        Some(url.into())
    }
}

/// Sends the browser on.
pub(super) fn see_other(location: &str) -> Response {
    let Ok(location) = HeaderValue::try_from(location) else { return Problem::NotConfigured.page() };
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}
