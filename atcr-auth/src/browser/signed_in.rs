use std::sync::Arc;
use std::time::Duration;

use atcr_core::Account;
use atcr_core::syntax::{Did, Handle};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use url::Url;
use url::form_urlencoded::Serializer;

use super::form::{ForeignForm, check_origin};
use super::{BrowserStore, Cookie, ReturnTo, Secret};
use crate::clock::{Clock, whole_seconds};
use crate::oauth::OAuthGrant;
use crate::pds_session::{SessionStore, SessionStoreError, StoredSession};

/// Where a sign-in begins; takes `handle` and `return_to`.
pub const LOGIN: &str = "/auth/oauth/login";

/// How long somebody stays signed in in a browser.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const KIND: &str = "browser";

/// The browsers of a registry, and who is signed in in them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Browsers {
    store: Arc<dyn BrowserStore>,
    sessions: Arc<dyn SessionStore>,
    cookie: Cookie,
    base: Url,
    clock: Clock,
}

#[derive(Serialize, Deserialize)]
struct Row {
    did: Did,
    handle: Option<Handle>,
}

/// Somebody who is signed in in the browser that sent a request.
#[derive(Debug, Clone)]
pub struct SignedIn {
    did: Did,
    handle: Option<Handle>,
    secret: Secret,
    origin: String,
}

impl Browsers {
    /// The browsers that visit the registry at `base_url`. `sessions` says whose session at the PDS is there.
    pub fn new(
        base_url: &Url,
        store: Arc<dyn BrowserStore>,
        sessions: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Self {
        Self { store, sessions, cookie: Cookie::new(base_url, "atcr-session"), base: base_url.clone(), clock }
    }

    /// Who is signed in in the browser that sent these headers, and still has a session at their PDS
    /// that permits what a registry needs.
    pub async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, SessionStoreError> {
        let Some(secret) = self.cookie.read(headers) else { return Ok(None) };
        let Some(value) = self.store.look(secret.row(KIND), self.clock.unix()).await? else {
            return Ok(None);
        };
        let Ok(Row { did, handle }) = serde_json::from_slice(&value) else { return Ok(None) };
        let session = self.sessions.get(&did).await?;
        let enough = |session: &StoredSession| session.oauth.as_ref().is_none_or(OAuthGrant::is_enough);
        if !session.is_some_and(|(session, _)| enough(&session)) {
            return Ok(None);
        }
        Ok(Some(SignedIn { did, handle, secret, origin: self.base.origin().ascii_serialization() }))
    }

    /// Where a browser signs in and then comes back to `return_to`: a path of this registry.
    pub fn login_path(&self, return_to: &ReturnTo) -> String {
        let query = Serializer::new(String::new()).append_pair("return_to", return_to.as_str()).finish();
        format!("{LOGIN}?{query}")
    }

    /// Where a browser may be sent back to, from a link's `return_to`.
    pub fn return_to(&self, text: &str) -> Option<ReturnTo> {
        ReturnTo::parse(text, &self.base)
    }

    /// Signs an account in, under a new name for its browser: one that somebody planted before is worth nothing. The
    /// answer is for `Set-Cookie`.
    pub(crate) async fn sign_in(
        &self,
        headers: &HeaderMap,
        account: &Account,
    ) -> Result<HeaderValue, SessionStoreError> {
        self.forget(headers).await?;
        let secret =
            Secret::random().map_err(|e| SessionStoreError::new("there are no random numbers", e))?;
        let row = Row { did: account.did.clone(), handle: account.handle.clone() };
        let value = serde_json::to_vec(&row)
            .map_err(|e| SessionStoreError::new("a browser's session cannot be written", e))?;
        let (now, lifetime) = (self.clock.unix(), whole_seconds(LIFETIME));
        self.store
            .keep(secret.row(KIND), Some(&account.did), &value, now, now.saturating_add(lifetime))
            .await?;
        Ok(self.cookie.set(&secret, lifetime))
    }

    /// Signs whoever is signed in out of this browser alone. The answer is for `Set-Cookie`.
    pub(crate) async fn forget(&self, headers: &HeaderMap) -> Result<HeaderValue, SessionStoreError> {
        if let Some(secret) = self.cookie.read(headers) {
            self.store.take(secret.row(KIND), self.clock.unix()).await?;
        }
        Ok(self.cookie.clear())
    }

    /// Signs an account out of every browser.
    pub(crate) async fn forget_account(&self, did: &Did) -> Result<(), SessionStoreError> {
        self.store.drop_all(did).await
    }
}

impl SignedIn {
    /// Whose browser it is.
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// The account's handle at the time of signing in, for display; `None` when it had no valid one.
    pub fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// The account as it is called on a page: its handle, else its DID.
    pub fn name(&self) -> &str {
        self.handle.as_ref().map_or(self.did.as_str(), Handle::as_str)
    }

    /// What every form on a page for this browser carries in a hidden field, `csrf`.
    pub fn form_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.mac().finalize().into_bytes())
    }

    /// Refuses a form that was not made for this browser, or that a page of another site sent.
    pub fn check_form(&self, headers: &HeaderMap, token: &str) -> Result<(), ForeignForm> {
        check_origin(headers, &self.origin)?;
        let sent = URL_SAFE_NO_PAD.decode(token).map_err(|_| ForeignForm)?;
        self.mac().verify_slice(&sent).map_err(|_| ForeignForm)
    }

    fn mac(&self) -> Hmac<Sha256> {
        let mut key = [0; 64];
        key[..32].copy_from_slice(self.secret.bytes());
        let mut mac: Hmac<Sha256> = Hmac::new(&key.into());
        mac.update(b"form");
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pds_session::MemorySessionStore;
    use atcr_core::Proof;
    use http::header;

    fn browsers(base: &str, clock: Clock) -> (Browsers, Arc<MemorySessionStore>) {
        let store: Arc<MemorySessionStore> = Arc::default();
        (Browsers::new(&base.parse().unwrap(), store.clone(), store.clone(), clock), store)
    }

    fn session(did: &str) -> StoredSession {
        StoredSession::with_password(
            did.parse().unwrap(),
            None,
            "https://pds.example".parse().unwrap(),
            "a".to_owned(),
            "r".to_owned(),
        )
    }

    fn account(did: &str) -> Account {
        Account {
            did: did.parse().unwrap(),
            handle: Some("alice.test".parse().unwrap()),
            proof: Proof::OAuth,
        }
    }

    fn with_cookie(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, pair.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_browser_is_signed_in_while_its_account_has_a_session_at_its_pds() {
        let clock = Clock::manual(1000);
        let (browsers, store) = browsers("https://registry.example", clock.clone());
        let set = browsers.sign_in(&HeaderMap::new(), &account("did:plc:alice")).await.unwrap();
        let text = set.to_str().unwrap();
        assert!(text.starts_with("__Host-atcr-session="), "{text}");
        for part in ["; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/;"] {
            assert!(text.contains(part), "{text}");
        }
        let headers = with_cookie(&set);
        assert!(browsers.signed_in(&headers).await.unwrap().is_none(), "no session at the PDS");
        store.put(&session("did:plc:alice")).await.unwrap();
        assert_eq!(browsers.signed_in(&headers).await.unwrap().unwrap().name(), "alice.test");
        clock.advance(LIFETIME);
        assert!(browsers.signed_in(&headers).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn signing_in_again_takes_another_name_and_ends_the_old_one() {
        let (browsers, store) = browsers("http://127.0.0.1:5000", Clock::system());
        store.put(&session("did:plc:alice")).await.unwrap();
        let first =
            with_cookie(&browsers.sign_in(&HeaderMap::new(), &account("did:plc:alice")).await.unwrap());
        let second = with_cookie(&browsers.sign_in(&first, &account("did:plc:alice")).await.unwrap());
        assert!(browsers.signed_in(&first).await.unwrap().is_none());
        assert!(browsers.signed_in(&second).await.unwrap().is_some());
        browsers.forget(&second).await.unwrap();
        assert!(browsers.signed_in(&second).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn forms_of_other_browsers_and_other_sites_are_refused() {
        let (browsers, store) = browsers("http://127.0.0.1:5000", Clock::system());
        store.put(&session("did:plc:alice")).await.unwrap();
        let signed_in = async || {
            let set = browsers.sign_in(&HeaderMap::new(), &account("did:plc:alice")).await.unwrap();
            browsers.signed_in(&with_cookie(&set)).await.unwrap().unwrap()
        };
        let (mine, other) = (signed_in().await, signed_in().await);
        let with = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        let token = mine.form_token();
        for good in
            [HeaderMap::new(), with("origin", "http://127.0.0.1:5000"), with("sec-fetch-site", "same-origin")]
        {
            assert_eq!(mine.check_form(&good, &token), Ok(()));
            assert_eq!(other.check_form(&good, &token), Err(ForeignForm));
            assert_eq!(mine.check_form(&good, ""), Err(ForeignForm));
        }
        for bad in [
            with("origin", "https://evil.example"),
            with("origin", "null"),
            with("origin", "http://127.0.0.1:5001"),
            with("sec-fetch-site", "cross-site"),
            with("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(mine.check_form(&bad, &token), Err(ForeignForm), "{bad:?}");
        }
    }
}
