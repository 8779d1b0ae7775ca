use std::sync::Arc;
use std::time::Duration;

use atcr_core::AUDIT;
use atcr_core::syntax::Did;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Form, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::pages::{ApprovePage, CodePage, DevicesPage, DonePage, Line};
use super::{DEVICES, DeviceId, DeviceRequest, DeviceSecret, DeviceStore, Kept, Polled, UserCode};
use crate::browser::{Browsers, ForeignForm, ReturnTo, Secret, SignedIn};
use crate::clock::{Clock, whole_seconds};
use crate::pages::{self, Forms};
use crate::pds_session::{Attempts, SessionStoreError};
use crate::peer::TrustedProxies;

/// How long somebody may take to approve a device.
const LIFETIME: Duration = Duration::from_secs(600);
/// How often a device may ask.
const INTERVAL: i64 = 2;
/// So many devices may wait at the same time.
const WAITING: u32 = 10_000;
/// No body that a device or a form sends is larger.
const MAX_BODY: usize = 16 * 1024;
const CODE_KIND: &str = "device code";
/// Codes that an account may get wrong within five minutes: it would be guessing at other people's devices.
const WRONG_CODES: usize = 10;
/// So many devices may an account have.
const MOST_DEVICES: usize = 100;

/// The routes of the device flow. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeviceFlow {
    store: Arc<dyn DeviceStore>,
    browsers: Browsers,
    base: Url,
    clock: Clock,
    proxies: TrustedProxies,
    wrong_codes: Attempts<Did>,
}

impl DeviceFlow {
    /// The device flow of the registry at `base_url`, for people who are signed in in these browsers.
    pub fn new(base_url: &Url, store: Arc<dyn DeviceStore>, browsers: Browsers, clock: Clock) -> Self {
        let wrong_codes = Attempts::new(clock.clone(), WRONG_CODES);
        let (base, proxies) = (base_url.clone(), TrustedProxies::default());
        Self { store, browsers, base, clock, proxies, wrong_codes }
    }

    /// The same, behind proxies, which say where devices ask from.
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// The routes. The address of a device is told by [`ConnectInfo`](axum::extract::ConnectInfo), which the server
    /// provides.
    pub fn router(self) -> Router {
        Router::new()
            .route("/auth/device/code", post(code))
            .route("/auth/device/token", post(token))
            .route("/auth/device/revoke", post(revoke_own))
            .route("/auth/device/version", get(version))
            .route("/device", get(ask).post(decide))
            .route(DEVICES, get(list))
            .route("/auth/devices/revoke", post(revoke))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    fn page(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    /// Ends a device by its secret.
    async fn forget(&self, secret: &DeviceSecret) -> Result<(), SessionStoreError> {
        let Some(device) = self.store.device(secret.row(), self.clock.unix()).await? else { return Ok(()) };
        self.store.forget(secret.row()).await?;
        tracing::info!(target: AUDIT, event = "device_revoked", did = %device.did, device = %device.id);
        Ok(())
    }

    /// Who is signed in; sends everybody else to sign in, and back.
    async fn signed_in(&self, headers: &HeaderMap, return_to: &str) -> Result<SignedIn, Problem> {
        if let Some(signed_in) = self.browsers.signed_in(headers).await? {
            return Ok(signed_in);
        }
        let back = self.browsers.return_to(return_to).unwrap_or_else(|| ReturnTo::fixed("/device"));
        Err(Problem::SignIn(self.browsers.login_path(&back)))
    }
}

/// An error of the token endpoint of OAuth (RFC 6749 section 5.2, RFC 8628 section 3.5).
fn refuse(status: StatusCode, error: &str, description: &str) -> Response {
    answer(status, json!({ "error": error, "error_description": description }))
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn broken(error: impl std::fmt::Display) -> Response {
    tracing::error!(%error, "the device flow failed");
    refuse(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "please try again later")
}

/// A parameter of a device's request: JSON, as the credential helpers of ATCR send it, or a form, as OAuth has it.
fn parameter(headers: &HeaderMap, body: &[u8], name: &str) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let mut fields = form_urlencoded::parse(body);
        return fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    }
    let json: Value = serde_json::from_slice(body).ok()?;
    json[name].as_str().map(str::to_owned)
}

/// What a device calls itself, without what would make it look like something else.
fn device_name(sent: Option<String>) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let name: String = sent.unwrap_or_default().chars().filter(|c| !hidden(*c)).take(64).collect();
    let name = name.trim();
    if name.is_empty() { "a device without a name".to_owned() } else { name.to_owned() }
}

/// `POST /auth/device/code` (RFC 8628 section 3.1).
async fn code(
    State(this): State<DeviceFlow>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let name = device_name(parameter(&headers, &body, "device_name"));
    let address = this.proxies.client(&extensions, &headers);
    let address = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
    let now = this.clock.unix();
    let lifetime = whole_seconds(LIFETIME);
    // Of 25,600,000,000 codes two are alike once in a long while.
    for _ in 0..4 {
        let (secret, user_code) = match (Secret::random(), UserCode::random()) {
            (Ok(secret), Ok(user_code)) => (secret, user_code),
            (Err(error), _) | (_, Err(error)) => return broken(error),
        };
        let request = DeviceRequest {
            code: secret.row(CODE_KIND),
            user_code: user_code.clone(),
            name: name.clone(),
            address: address.clone(),
            expires: now.saturating_add(lifetime),
        };
        match this.store.request(&request, now, WAITING).await {
            Ok(Kept::Kept) => {
                let page = this.page("/device");
                let mut complete = page.clone();
                complete.query_pairs_mut().append_pair("user_code", &user_code.to_string());
                return answer(
                    StatusCode::OK,
                    json!({
                        "device_code": secret.text(),
                        "user_code": user_code.to_string(),
                        "verification_uri": page,
                        "verification_uri_complete": complete,
                        "expires_in": lifetime,
                        "interval": INTERVAL,
                    }),
                );
            }
            Ok(Kept::CodeTaken) => {}
            Ok(Kept::TooMany) => {
                let text = "too many devices wait for their approval; try again in some minutes";
                let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", text);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
                return response;
            }
            Err(error) => return broken(error),
        }
    }
    broken("no free code was found")
}

/// `POST /auth/device/token` (RFC 8628 section 3.4).
async fn token(State(this): State<DeviceFlow>, headers: HeaderMap, body: Bytes) -> Response {
    let refuse = |error, description| refuse(StatusCode::BAD_REQUEST, error, description);
    let Some(text) = parameter(&headers, &body, "device_code") else {
        return refuse("invalid_request", "device_code is missing");
    };
    let Some(code) = Secret::read(&text) else {
        return refuse("expired_token", "there is no such code");
    };
    let (id, secret) = match (DeviceId::random(), DeviceSecret::random()) {
        (Ok(id), Ok(secret)) => (id, secret),
        (Err(error), _) | (_, Err(error)) => return broken(error),
    };
    match this.store.poll(code.row(CODE_KIND), &id, secret.row(), this.clock.unix(), INTERVAL).await {
        Ok(Polled::Granted(device)) => {
            tracing::info!(target: AUDIT, event = "device_added", did = %device.did, device = %device.id, name = device.name);
            let name = device.handle.as_ref().map_or(device.did.as_str(), |handle| handle.as_str());
            answer(
                StatusCode::OK,
                json!({ "device_secret": secret.text(), "handle": name, "did": device.did }),
            )
        }
        Ok(Polled::Pending) => refuse("authorization_pending", "nobody has approved this device yet"),
        Ok(Polled::TooSoon) => refuse("slow_down", "ask less often"),
        Ok(Polled::Denied) => refuse("access_denied", "the device was denied"),
        Ok(Polled::Unknown) => refuse("expired_token", "the code has expired, or was used"),
        Err(error) => broken(error),
    }
}

/// `POST /auth/device/revoke`: whoever has a secret may end it. As in RFC 7009 one that is unknown is ended already.
async fn revoke_own(State(this): State<DeviceFlow>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(text) = parameter(&headers, &body, "device_secret") else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_request", "device_secret is missing");
    };
    if let Some(secret) = DeviceSecret::read(&text)
        && let Err(error) = this.forget(&secret).await
    {
        return broken(error);
    }
    answer(StatusCode::OK, json!({}))
}

/// `GET /auth/device/version`: the credential helper is released with the registry.
async fn version() -> Response {
    answer(StatusCode::OK, json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// Why a page cannot be shown.
enum Problem {
    SignIn(String),
    Foreign(ForeignForm),
    Gone,
    TooManyCodes(Duration),
    TooManyDevices,
    Store(SessionStoreError),
}

impl From<SessionStoreError> for Problem {
    fn from(error: SessionStoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ForeignForm> for Problem {
    fn from(error: ForeignForm) -> Self {
        Self::Foreign(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::SignIn(path) => return see_other(&path),
            Self::Foreign(error) => (StatusCode::FORBIDDEN, error.to_string()),
            Self::Gone => (
                StatusCode::NOT_FOUND,
                "This code is not known here: it was used already, or it is older than ten minutes. Please begin again at the device.".to_owned(),
            ),
            Self::TooManyCodes(wait) => (
                StatusCode::TOO_MANY_REQUESTS,
                format!("Too many codes were wrong. Please wait {} seconds, then compare the code once more.", wait.as_secs()),
            ),
            Self::TooManyDevices => (
                StatusCode::CONFLICT,
                format!("Your account has {MOST_DEVICES} devices, which is all it can have. Revoke those that you no longer use first."),
            ),
            Self::Store(error) => {
                tracing::error!(%error, "a page about devices cannot be shown");
                let text = "Something is broken at this registry. Please try again later.";
                (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
            }
        };
        let page = pages::Problem { title: "Nothing was changed", message: &message, again: Some("/device") };
        pages::show(status, &page, Forms::Here)
    }
}

fn see_other(path: &str) -> Response {
    let Ok(location) = HeaderValue::try_from(path) else { return StatusCode::NOT_FOUND.into_response() };
    let headers =
        [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Typed {
    user_code: String,
}

/// `GET /device`: asks for the code, then for the decision.
async fn ask(
    State(this): State<DeviceFlow>,
    Query(typed): Query<Typed>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let code = UserCode::parse(&typed.user_code);
    let back = code.as_ref().map_or_else(|| "/device".to_owned(), |code| format!("/device?user_code={code}"));
    let signed_in = this.signed_in(&headers, &back).await?;
    let form = |status, error| {
        let shown: String = typed.user_code.chars().take(64).collect();
        pages::show(status, &CodePage { typed: &shown, error }, Forms::Here)
    };
    if typed.user_code.trim().is_empty() {
        return Ok(form(StatusCode::OK, None));
    }
    let attempt = this.wrong_codes.begin(signed_in.did()).await.map_err(Problem::TooManyCodes)?;
    let found = match &code {
        Some(code) => this.store.find(code, this.clock.unix()).await?,
        None => None,
    };
    let Some(request) = found else {
        attempt.counts();
        let error =
            "This code is not known here. Compare it with what the device shows; it is good for ten minutes.";
        return Ok(form(StatusCode::NOT_FOUND, Some(error)));
    };
    let page = ApprovePage {
        account: signed_in.name(),
        device: &request.name,
        address: &request.address,
        user_code: &request.user_code.to_string(),
        csrf: &signed_in.form_token(),
    };
    Ok(pages::show(StatusCode::OK, &page, Forms::Here))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Decision {
    csrf: String,
    user_code: String,
    #[serde(rename = "decision")]
    answer: String,
}

/// `POST /device`: the decision.
async fn decide(
    State(this): State<DeviceFlow>,
    headers: HeaderMap,
    Form(form): Form<Decision>,
) -> Result<Response, Problem> {
    let signed_in = this.signed_in(&headers, "/device").await?;
    signed_in.check_form(&headers, &form.csrf)?;
    let attempt = this.wrong_codes.begin(signed_in.did()).await.map_err(Problem::TooManyCodes)?;
    let code = UserCode::parse(&form.user_code).ok_or(Problem::Gone)?;
    // Whatever is not a yes is a no.
    let allowed = form.answer == "allow";
    if allowed && this.store.devices(signed_in.did()).await?.len() >= MOST_DEVICES {
        return Err(Problem::TooManyDevices);
    }
    let account = allowed.then(|| (signed_in.did(), signed_in.handle()));
    if !this.store.decide(&code, account, this.clock.unix()).await? {
        attempt.counts();
        return Err(Problem::Gone);
    }
    let event = if allowed { "device_approved" } else { "device_denied" };
    tracing::info!(target: AUDIT, event, did = %signed_in.did());
    let page = DonePage { allowed, account: signed_in.name() };
    Ok(pages::show(StatusCode::OK, &page, Forms::Here))
}

/// `GET /auth/devices`.
async fn list(State(this): State<DeviceFlow>, headers: HeaderMap) -> Result<Response, Problem> {
    let signed_in = this.signed_in(&headers, DEVICES).await?;
    let devices = this.store.devices(signed_in.did()).await?;
    let lines: Vec<_> = devices
        .into_iter()
        .map(|device| Line {
            id: device.id.as_str().to_owned(),
            name: device.name,
            address: device.address,
            created: day(device.created),
            used: day(device.used),
        })
        .collect();
    let page = DevicesPage { account: signed_in.name(), devices: &lines, csrf: &signed_in.form_token() };
    Ok(pages::show(StatusCode::OK, &page, Forms::Here))
}

/// The day of a moment, UTC.
fn day(unix: i64) -> String {
    let moment = jiff::Timestamp::from_second(unix).unwrap_or_default().to_string();
    moment.split('T').next().unwrap_or_default().to_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revocation {
    csrf: String,
    id: String,
}

/// `POST /auth/devices/revoke`.
async fn revoke(
    State(this): State<DeviceFlow>,
    headers: HeaderMap,
    Form(form): Form<Revocation>,
) -> Result<Response, Problem> {
    let signed_in = this.signed_in(&headers, DEVICES).await?;
    signed_in.check_form(&headers, &form.csrf)?;
    let device = DeviceId::new(form.id);
    if this.store.revoke(signed_in.did(), &device).await? {
        tracing::info!(target: AUDIT, event = "device_revoked", did = %signed_in.did(), device = %device);
    }
    Ok(see_other(DEVICES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_pretend() {
        let name = |text: &str| device_name(Some(text.to_owned()));
        assert_eq!(name(" laptop\u{202e}\n\u{200b} "), "laptop");
        assert_eq!(name(&"x".repeat(1000)).len(), 64);
        assert_eq!(name("\u{202e}"), device_name(None));
    }
}
