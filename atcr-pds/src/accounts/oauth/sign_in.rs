use atcr_core::syntax::Did;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use super::OAuthError;
use super::authorize::{Refusal, Visit};
use super::browser;
use super::form::Form;
use super::request::Prompt;
use crate::accounts::limits::{Counted, Limit, client};
use crate::accounts::store::Account;
use crate::accounts::{AccountError, Pds};

/// Wrong passwords from one address for one account, and from one address for all: whether rate limits are switched
/// on or not.
const FAILURES: [Limit; 1] = [Limit { points: 10, seconds: 5 * 60 }];
const FAILURES_OF_ADDRESS: [Limit; 1] = [Limit { points: 50, seconds: 5 * 60 }];

pub(super) async fn read(request: Request) -> Result<(Parts, Form), OAuthError> {
    let (parts, body) = request.into_parts();
    let form = Form::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    Ok((parts, form))
}

/// Takes the form with name and password.
pub(super) async fn sign_in(State(pds): State<Pds>, request: Request) -> Response {
    match log_in(&pds, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&pds),
    }
}

async fn log_in(pds: &Pds, request: Request) -> Result<Response, Refusal> {
    let (parts, form) = read(request).await?;
    let mut visit = Visit::find(pds, &form, &parts.headers, true).await?;
    let identifier = form.get("username").unwrap_or_default().trim().to_lowercase();
    let remember = form.has("remember");
    let address = client(&parts);
    let one = format!("{address} {identifier}");
    let counted = [(one.as_str(), &FAILURES), (address.as_str(), &FAILURES_OF_ADDRESS)];
    // Counted before the password is checked, or many at once would all be let through.
    let mut exceeded = false;
    for (key, limits) in counted {
        exceeded |= pds.count_within(Counted::SignIns, key, limits).is_err();
    }
    if exceeded {
        let message = "Too many wrong passwords. Please try again in five minutes.";
        let status = StatusCode::TOO_MANY_REQUESTS;
        return visit.sign_in_page(pds, status, Some(&identifier), Some(message)).await;
    }
    let Some(account) = check(pds, &identifier, form.get("password").unwrap_or_default()).await? else {
        let message = "Invalid identifier or password";
        return visit.sign_in_page(pds, StatusCode::BAD_REQUEST, Some(&identifier), Some(message)).await;
    };
    for (key, limits) in counted {
        pds.give_back(Counted::SignIns, key, limits);
    }
    visit.browser = browser::sign_in(pds.pool(), &visit.browser, &account.did, remember, pds.now()).await?;
    visit.request.signed_in(pds.pool(), &visit.browser.id(), &account.did).await?;
    Ok(visit.with_cookie(pds, remember, visit.next()))
}

/// The account, if the password is its own; app passwords are for programs.
async fn check(pds: &Pds, identifier: &str, password: &str) -> Result<Option<Account>, AccountError> {
    let account = pds.accounts().by_login(identifier).await?;
    let hash = account.as_ref().map(|account| account.password.clone());
    let fits = pds.passwords().verify(password, hash).await?;
    Ok(account.filter(|_| fits))
}

/// Takes the choice of an account that has logged in before.
pub(super) async fn choose(State(pds): State<Pds>, request: Request) -> Response {
    match choice(&pds, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&pds),
    }
}

async fn choice(pds: &Pds, request: Request) -> Result<Response, Refusal> {
    let (parts, form) = read(request).await?;
    let visit = Visit::find(pds, &form, &parts.headers, true).await?;
    let chosen = form.get("did").and_then(|did| did.parse::<Did>().ok());
    let known = browser::accounts(pds.pool(), &visit.browser, pds.now()).await?;
    let chosen = chosen.filter(|did| known.contains(did));
    match chosen {
        Some(did) if visit.request.parameters.prompt != Some(Prompt::Login) => {
            visit.request.signed_in(pds.pool(), &visit.browser.id(), &did).await?;
            Ok(visit.next())
        }
        _ => visit.sign_in_page(pds, StatusCode::BAD_REQUEST, None, Some("Please log in again.")).await,
    }
}
