//! A browser signs in at `atcr dev`: at the registry, through the PDS beside it, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, Response, header, redirect};
use serde_json::Value;
use url::Url;

use crate::support::{Account, Dev, http};

/// A browser that keeps cookies by host and port, and follows no redirect by itself.
pub(crate) struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

impl Browser {
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test speaks to its own servers on loopback")]
        let client = reqwest::Client::builder();
        // A server that starts again knows nothing of the connections of before.
        let client = client.redirect(redirect::Policy::none()).pool_max_idle_per_host(0).build().unwrap();
        Self { client, cookies: BTreeMap::new() }
    }

    /// The values of all its cookies.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.cookies.values().flat_map(BTreeMap::values).map(String::as_str).filter(|value| !value.is_empty())
    }

    async fn send(&mut self, method: Method, url: &Url, body: Option<(&str, Vec<u8>)>) -> Response {
        let origin = url.origin().ascii_serialization();
        let jar = self.cookies.entry(origin.clone()).or_default();
        let cookie: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.request(method, url.clone()).header(header::COOKIE, cookie.join("; "));
        if let Some((content_type, body)) = body {
            request =
                request.header(header::ORIGIN, origin).header(header::CONTENT_TYPE, content_type).body(body);
        }
        let answer = request.send().await.unwrap();
        for value in answer.headers().get_all(header::SET_COOKIE) {
            let (name, value) = value.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            jar.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub(crate) async fn open(&mut self, url: &Url) -> Response {
        self.send(Method::GET, url, None).await
    }

    /// Sends what a page of the same site would send.
    pub(crate) async fn post(&mut self, url: &Url, content_type: &str, body: Vec<u8>) -> Response {
        self.send(Method::POST, url, Some((content_type, body))).await
    }

    /// Fills in the form of a page that has this action.
    pub(crate) async fn submit(&mut self, page: &str, url: &Url, filled: &[(&str, &str)]) -> Response {
        let form = page.split(&format!("action=\"{}\"", url.path())).nth(1).unwrap();
        let form = form.split("</form>").next().unwrap();
        let attribute = |tag: &str, name: &str| {
            let value = tag.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            value.replace("&#38;", "&")
        };
        let tags = form.split("<input ").filter(|tag| tag.starts_with("type=\"hidden\""));
        let mut fields: Vec<_> = tags.map(|tag| (attribute(tag, "name"), attribute(tag, "value"))).collect();
        fields.extend(filled.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        self.post(url, "application/x-www-form-urlencoded", body.into()).await
    }

    /// From the registry to the PDS, through its pages, and back; gives the last answer of the registry.
    pub(crate) async fn sign_in(&mut self, dev: &Dev, account: &Account, return_to: &str) -> Response {
        let appview: Url = dev.text("appview").parse().unwrap();
        let mut login = appview.join("/auth/oauth/login").unwrap();
        login.query_pairs_mut().append_pair("handle", &account.handle).append_pair("return_to", return_to);
        let authorize = location(&self.open(&login).await);
        let page = self.open(&authorize).await.text().await.unwrap();
        let filled = [("username", account.handle.as_str()), ("password", account.password.as_str())];
        let sent = self.submit(&page, &authorize.join("/oauth/authorize/sign-in").unwrap(), &filled).await;
        let consent = location(&sent);
        let page = self.open(&consent).await.text().await.unwrap();
        assert!(page.contains(&account.handle), "{page}");
        let decide = authorize.join("/oauth/authorize/consent").unwrap();
        let callback = location(&self.submit(&page, &decide, &[("decision", "allow")]).await);
        assert_eq!(callback.origin(), appview.origin());
        self.open(&callback).await
    }
}

pub(crate) fn location(answer: &Response) -> Url {
    let location = answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap());
    answer
        .url()
        .join(location.unwrap_or_else(|| panic!("no redirect from {}: {}", answer.url(), answer.status())))
        .unwrap()
}

async fn record(dev: &Dev, repo: &str, collection: &str) -> Option<Value> {
    let query = [("repo", repo), ("collection", collection), ("rkey", "self")];
    let url = format!("{}/xrpc/com.atproto.repo.getRecord", dev.text("pds"));
    let answer = http().get(url).query(&query).send().await.unwrap();
    answer.status().is_success().then_some(answer.json().await.unwrap())
}

async fn crew(dev: &Dev, did: &str) -> bool {
    let query = [("repo", dev.text("hold_did")), ("collection", "io.atcr.hold.crew")];
    let url = format!("{}/xrpc/com.atproto.repo.listRecords", dev.text("hold"));
    let answer: Value = http().get(url).query(&query).send().await.unwrap().json().await.unwrap();
    answer["records"].as_array().unwrap().iter().any(|record| record["value"]["member"] == did)
}

/// Waits for what happens in the background.
async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_browser_signs_in_gets_a_profile_and_becomes_crew_and_stays_signed_in_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path());
    let bob = dev.account(1);
    let mut browser = Browser::new();
    assert!(record(&dev, &bob.did, "io.atcr.sailor.profile").await.is_none());
    assert!(!crew(&dev, &bob.did).await);
    let answer = browser.sign_in(&dev, &bob, "/auth/account?from=here").await;
    assert_eq!(location(&answer).path(), "/auth/account");
    let appview: Url = dev.text("appview").parse().unwrap();
    let account = appview.join("/auth/account").unwrap();
    let page = browser.open(&account).await.text().await.unwrap();
    assert!(page.contains(&bob.handle) && page.contains(&bob.did), "{page}");
    eventually("a profile is made", async || {
        record(&dev, &bob.did, "io.atcr.sailor.profile").await.is_some()
    })
    .await;
    eventually("bob is crew", async || crew(&dev, &bob.did).await).await;
    let port = appview.port().unwrap();
    dev.process.stop("KILL");

    let dev = Dev::start_with(dir.path(), &["--port", &port.to_string()]);
    let page = browser.open(&account).await.text().await.unwrap();
    assert!(page.contains(&bob.handle), "{page}");
    let logout = appview.join("/auth/logout").unwrap();
    assert_eq!(browser.submit(&page, &logout, &[]).await.status(), 200);
    assert_eq!(location(&browser.open(&account).await).path(), "/auth/oauth/login");
    // The name that a browser may know this machine by leads to the one that it comes back to.
    let localhost = Url::parse(&format!("http://localhost:{port}/auth/oauth/login?handle=bob.test")).unwrap();
    assert_eq!(location(&browser.open(&localhost).await).host_str(), Some("127.0.0.1"));
    drop(dev);
}
