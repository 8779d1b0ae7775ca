//! The browser of an account's owner: a random name in a cookie, and who has logged in under it.

use atcr_core::syntax::Did;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac as _};
use http::header::{COOKIE, ORIGIN};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;
use sqlx::{Row as _, SqlitePool};

use super::OAuthError;
use super::jwt::hash;
use super::mac::mac;
use super::scope::Scopes;
use crate::accounts::password::random;
use crate::accounts::{AccountError, Pds};

const COOKIE_NAME: &str = "oauth-session";
/// How long a log-in is good for, in seconds.
const SESSION_LIFETIME: i64 = 7 * 24 * 60 * 60;
/// How long it is remembered what was agreed on.
const CONSENT_LIFETIME: i64 = 365 * 24 * 60 * 60;
/// Accounts that one browser remembers.
const MAX_ACCOUNTS: i64 = 10;

/// The secret name of a browser.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Browser(String);

impl Browser {
    pub(super) fn new() -> Result<Self, AccountError> {
        Ok(Self(BASE64URL_NOPAD.encode(&random::<32>()?)))
    }

    /// The browser that sent a request.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE_NAME)?;
        let bytes = BASE64URL_NOPAD.decode(value.as_bytes()).ok()?;
        (bytes.len() == 32).then(|| Self(value.to_owned()))
    }

    /// Under which the browser is kept.
    pub(super) fn id(&self) -> String {
        hash(&self.0)
    }

    /// The cookie, which goes to no script and to no request that another site makes.
    pub(super) fn cookie(&self, secure: bool, remember: bool) -> Option<HeaderValue> {
        let mut text = format!("{COOKIE_NAME}={}; Path=/oauth/authorize; HttpOnly; SameSite=Lax", self.0);
        if remember {
            text.push_str(&format!("; Max-Age={SESSION_LIFETIME}"));
        }
        if secure {
            text.push_str("; Secure");
        }
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn form_mac(&self, pds: &Pds, request: &str) -> Hmac<Sha256> {
        let mac = mac(&pds.oauth().pages_secret);
        mac.chain_update(self.0.as_bytes()).chain_update([0]).chain_update(request.as_bytes())
    }

    /// The proof that a form for a request was made by this server for this browser.
    pub(super) fn form_token(&self, pds: &Pds, request: &str) -> String {
        BASE64URL_NOPAD.encode(&self.form_mac(pds, request).finalize().into_bytes())
    }

    pub(super) fn check_form_token(&self, pds: &Pds, request: &str, token: &str) -> bool {
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap_or_default();
        self.form_mac(pds, request).verify_slice(&bytes).is_ok()
    }
}

/// Whether a page of this server sent a form, as far as the browser tells.
pub(super) fn is_own_form(pds: &Pds, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = headers.get(ORIGIN).is_none_or(|origin| origin.as_bytes() == pds.issuer().as_bytes());
    origin && text("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

/// Whether a request opens a page in a window of its own, as far as the browser tells.
pub(super) fn is_navigation(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &str| {
        headers.get(name).is_none_or(|value| value.as_bytes() == wanted.as_bytes())
    };
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// The accounts that have logged in, the last first.
pub(super) async fn accounts(pool: &SqlitePool, browser: &Browser, now: i64) -> Result<Vec<Did>, OAuthError> {
    let rows = sqlx::query(
        "select did from oauth_sessions where device = ? and signed_in > ? order by signed_in desc, did limit ?",
    )
    .bind(browser.id())
    .bind(now - SESSION_LIFETIME)
    .bind(MAX_ACCOUNTS)
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().filter_map(|row| row.get::<String, _>(0).parse().ok()).collect())
}

/// Remembers that an account has logged in, and gives the browser another name: one that somebody else planted
/// before is worth nothing.
pub(super) async fn sign_in(
    pool: &SqlitePool,
    old: &Browser,
    did: &Did,
    remember: bool,
    now: i64,
) -> Result<Browser, OAuthError> {
    let new = Browser::new()?;
    sqlx::query("update oauth_sessions set device = ? where device = ?")
        .bind(new.id())
        .bind(old.id())
        .execute(pool)
        .await?;
    if remember {
        sqlx::query("insert or replace into oauth_sessions (device, did, signed_in) values (?, ?, ?)")
            .bind(new.id())
            .bind(did.as_str())
            .bind(now)
            .execute(pool)
            .await?;
    }
    Ok(new)
}

/// What the owner has let a client do before.
pub(super) async fn consent(
    pool: &SqlitePool,
    did: &Did,
    client: &str,
    now: i64,
) -> Result<Option<Scopes>, OAuthError> {
    let row = sqlx::query("select scope from oauth_consents where did = ? and client = ? and given > ?")
        .bind(did.as_str())
        .bind(client)
        .bind(now - CONSENT_LIFETIME)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| row.get::<String, _>(0).into()))
}

pub(super) async fn remember_consent(
    pool: &SqlitePool,
    did: &Did,
    client: &str,
    scope: &Scopes,
    now: i64,
) -> Result<(), OAuthError> {
    sqlx::query("insert or replace into oauth_consents (did, client, scope, given) values (?, ?, ?, ?)")
        .bind(did.as_str())
        .bind(client)
        .bind(scope.as_str())
        .bind(now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Removes whatever has had its time.
pub(super) async fn sweep(pool: &SqlitePool, now: i64) -> Result<(), OAuthError> {
    for (statement, before) in [
        ("delete from oauth_requests where expires <= ?", now),
        ("delete from oauth_grants where expires <= ?", now),
        ("delete from oauth_replays where expires <= ?", now),
        ("delete from oauth_sessions where signed_in <= ?", now - SESSION_LIFETIME),
        ("delete from oauth_consents where given <= ?", now - CONSENT_LIFETIME),
    ] {
        sqlx::query(statement).bind(before).execute(pool).await?;
    }
    Ok(())
}
