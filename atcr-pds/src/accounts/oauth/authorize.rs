//! The authorization endpoint: the page on which the owner of an account logs in and agrees.

use std::sync::Arc;

use atcr_core::syntax::{AtIdentifier, Did};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::form_urlencoded::Serializer;

use super::OAuthError;
use super::browser::{self, Browser};
use super::client::Client;
use super::form::Form;
use super::pages::{self, Consent, SignIn};
use super::request::{AuthorizationRequest, Prompt};
use super::response::{Outcome, back_to_client};
use super::scope::{describe, expand};
use crate::accounts::{AccountError, Pds};

/// A browser on the way through one request.
pub(super) struct Visit {
    pub(super) client: Arc<Client>,
    pub(super) request: AuthorizationRequest,
    /// The secret name of the request, as the browser knows it.
    pub(super) uri: String,
    pub(super) browser: Browser,
    /// Whether the browser has yet to be told its name.
    is_new: bool,
}

/// Why a page cannot be shown.
pub(super) enum Refusal {
    /// The browser is not sent anywhere: who asks has not been made out.
    Page(StatusCode, String),
    /// The client is told.
    Client(Box<Visit>, Outcome),
}

impl From<OAuthError> for Refusal {
    fn from(error: OAuthError) -> Self {
        Self::Page(error.status(), error.description().to_owned())
    }
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        OAuthError::from(error).into()
    }
}

impl Refusal {
    pub(super) fn page(message: &str) -> Self {
        Self::Page(StatusCode::BAD_REQUEST, message.to_owned())
    }

    pub(super) fn into_response(self, pds: &Pds) -> Response {
        match self {
            Self::Page(status, message) => pages::problem(status, &message),
            Self::Client(visit, outcome) => back_to_client(pds, &visit.request.parameters, outcome),
        }
    }
}

impl Visit {
    /// The visit that the parameters of a page or form name. A form is only taken from the browser that has the
    /// request; a page gives it to whoever comes first.
    pub(super) async fn find(
        pds: &Pds,
        form: &Form,
        headers: &HeaderMap,
        is_form: bool,
    ) -> Result<Self, Refusal> {
        let client_id = form.get("client_id").ok_or_else(|| Refusal::page("The client_id is missing."))?;
        let uri = form.get("request_uri").ok_or_else(|| {
            Refusal::page("The request_uri is missing: this server takes pushed authorization requests only.")
        })?;
        let client = pds.oauth().clients.get(client_id).await?;
        let unknown =
            || Refusal::page("This request is not known here. It may have expired; please start again.");
        let mut request = AuthorizationRequest::find(pds.pool(), uri).await?.ok_or_else(unknown)?;
        let now = pds.now();
        if request.client != client.id {
            return Err(Refusal::page("This request was initiated for another client."));
        }
        if request.authorized {
            return Err(Refusal::page("This request was already authorized."));
        }
        if request.expires <= now {
            return Err(Refusal::page("This request has expired. Please start again."));
        }
        let sent = Browser::of(headers);
        let is_new = sent.is_none();
        let browser = match sent {
            Some(browser) => browser,
            None if is_form => {
                return Err(Refusal::page(
                    "Your browser sent no cookie. Please allow cookies and start again.",
                ));
            }
            None => Browser::new()?,
        };
        let elsewhere = || Refusal::page("This request was initiated from another device.");
        if is_form {
            let token = form.get("csrf").unwrap_or_default();
            if !browser::is_own_form(pds, headers) || !browser.check_form_token(pds, uri, token) {
                return Err(Refusal::Page(
                    StatusCode::FORBIDDEN,
                    "This form was not sent by a page of this server. Please start again.".into(),
                ));
            }
            if request.device.as_ref() != Some(&browser.id()) {
                return Err(elsewhere());
            }
        }
        if !request.claim(pds.pool(), &browser.id(), now).await? {
            return Err(elsewhere());
        }
        Ok(Self { client, request, uri: uri.to_owned(), browser, is_new })
    }

    /// The query by which the visit goes on.
    pub(super) fn query(&self) -> String {
        let pairs = [("client_id", &self.client.id), ("request_uri", &self.uri)];
        Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    /// Goes on with the page that comes next.
    pub(super) fn next(&self) -> Response {
        let Ok(location) = HeaderValue::try_from(format!("/oauth/authorize?{}", self.query())) else {
            return pages::problem(StatusCode::BAD_REQUEST, "The client_id is not an address.");
        };
        (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
    }

    /// The response, with the name of the browser for it to keep.
    pub(super) fn with_cookie(&self, pds: &Pds, remember: bool, mut response: Response) -> Response {
        let secure = pds.config().public_url.scheme() == "https";
        if let Some(cookie) = self.browser.cookie(secure, remember) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }

    /// Tells the client how it ended.
    pub(super) async fn refuse(self, pds: &Pds, error: &'static str, description: &'static str) -> Refusal {
        match self.request.delete(pds.pool()).await {
            Ok(()) => Refusal::Client(Box::new(self), Outcome::Error { error, description }),
            Err(error) => error.into(),
        }
    }

    fn hint(&self) -> Option<AtIdentifier> {
        self.request.parameters.login_hint.as_deref()?.parse().ok()
    }

    /// The page to log in.
    pub(super) async fn sign_in_page(
        &self,
        pds: &Pds,
        status: StatusCode,
        identifier: Option<&str>,
        error: Option<&str>,
    ) -> Result<Response, Refusal> {
        let mut remembered = Vec::new();
        if self.request.parameters.prompt != Some(Prompt::Login) {
            for did in browser::accounts(pds.pool(), &self.browser, pds.now()).await? {
                remembered.push(pds.account(&did).await?);
            }
        }
        let page = SignIn {
            client: pages::ClientName::of(&self.client),
            hidden: self.hidden(pds),
            identifier: identifier.or(self.request.parameters.login_hint.as_deref()).unwrap_or_default(),
            error: error.unwrap_or_default(),
            remembered: &remembered,
        };
        Ok(self.shown(pds, pages::show(status, &page, &self.request.parameters.redirect_uri)))
    }

    fn shown(&self, pds: &Pds, page: Response) -> Response {
        if self.is_new { self.with_cookie(pds, false, page) } else { page }
    }

    fn hidden(&self, pds: &Pds) -> pages::Hidden<'_> {
        pages::Hidden {
            client_id: &self.client.id,
            request_uri: &self.uri,
            csrf: self.browser.form_token(pds, &self.uri),
            query: self.query(),
        }
    }

    /// The page to agree.
    async fn consent_page(&self, pds: &Pds, did: &Did) -> Result<Response, Refusal> {
        let parameters = &self.request.parameters;
        let account = pds.account(did).await?;
        let page = Consent {
            client: pages::ClientName::of(&self.client),
            hidden: self.hidden(pds),
            account: &account,
            sentences: describe(&expand(pds, &parameters.scope).await?),
        };
        Ok(self.shown(pds, pages::show(StatusCode::OK, &page, &parameters.redirect_uri)))
    }

    /// The way back to the client with a code for the account.
    pub(super) async fn grant(self, pds: &Pds, did: &Did) -> Result<Response, Refusal> {
        let now = pds.now();
        let Some(code) = self.request.authorize(pds.pool(), did, now).await? else {
            return Err(Refusal::page("This request was already authorized."));
        };
        let parameters = &self.request.parameters;
        browser::remember_consent(pds.pool(), did, &self.client.id, &parameters.scope, now).await?;
        Ok(back_to_client(pds, parameters, Outcome::Code(code)))
    }

    /// Whether the owner has let this client do as much before, and need not be asked again.
    async fn is_agreed(&self, pds: &Pds, did: &Did) -> Result<bool, Refusal> {
        let parameters = &self.request.parameters;
        if self.client.is_public() || !matches!(parameters.prompt, None | Some(Prompt::None)) {
            return Ok(false);
        }
        let before = browser::consent(pds.pool(), did, &self.client.id, pds.now()).await?;
        Ok(before.is_some_and(|before| parameters.scope.within(&before)))
    }
}

/// The page that comes next: to log in, to agree, or none.
pub(super) async fn page(State(pds): State<Pds>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    match show(&pds, &query.unwrap_or_default(), &headers).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(&pds),
    }
}

async fn show(pds: &Pds, query: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
    if !browser::is_navigation(headers) {
        return Err(Refusal::Page(StatusCode::FORBIDDEN, "This page is for a window of its own.".into()));
    }
    let form = Form::of_query(query)?;
    let visit = Visit::find(pds, &form, headers, false).await?;
    if let Some(did) = visit.request.did.clone() {
        return match form.get("other") {
            Some(_) => visit.sign_in_page(pds, StatusCode::OK, None, None).await,
            None => visit.consent_page(pds, &did).await,
        };
    }
    let prompt = visit.request.parameters.prompt;
    let mut candidates = Vec::new();
    let hint = visit.hint();
    for did in browser::accounts(pds.pool(), &visit.browser, pds.now()).await? {
        let meant = match &hint {
            None => true,
            Some(AtIdentifier::Did(hint)) => *hint == did,
            Some(AtIdentifier::Handle(hint)) => pds.account(&did).await?.handle == *hint,
        };
        if meant {
            candidates.push(did);
        }
    }
    match (prompt, candidates.as_slice()) {
        (Some(Prompt::None), []) => Err(visit.refuse(pds, "login_required", "Login is required").await),
        (Some(Prompt::None), [did]) if visit.is_agreed(pds, did).await? => visit.grant(pds, did).await,
        (Some(Prompt::None), [_]) => {
            Err(visit.refuse(pds, "consent_required", "User consent required").await)
        }
        (Some(Prompt::None), _) => {
            Err(visit.refuse(pds, "account_selection_required", "Account selection required").await)
        }
        (None | Some(Prompt::Consent), [did]) if form.get("other").is_none() => {
            if hint.is_some() && visit.is_agreed(pds, did).await? {
                return visit.grant(pds, did).await;
            }
            visit.request.signed_in(pds.pool(), &visit.browser.id(), did).await?;
            visit.consent_page(pds, did).await
        }
        _ => visit.sign_in_page(pds, StatusCode::OK, None, None).await,
    }
}
