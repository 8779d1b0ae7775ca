//! A client of the OAuth provider and the browser of its user, in the test's own process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atcr_pds::accounts::{ClientDocuments, DocumentError, PdsConfig};
use axum::body::Body;
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{Method, Request, StatusCode, header};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::{Url, form_urlencoded};

use crate::world::{ALICE, Answer, PASSWORD, World};

pub(crate) const ISSUER: &str = "http://localhost:2583";
pub(crate) const LOOPBACK: &str = "http://127.0.0.1:8999/callback";
pub(crate) const WEB_CLIENT: &str = "https://app.example.com/client.json";
pub(crate) const WEB_REDIRECT: &str = "https://app.example.com/callback";
pub(crate) const SCOPE: &str = "atproto repo:io.atcr.manifest blob:*/*";

pub(crate) fn sha256(text: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(text))
}

/// A different text each time.
pub(crate) fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    sha256(&format!("{name} {}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A P-256 key.
#[derive(Clone)]
pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn new() -> Self {
        let bytes = Sha256::digest(fresh("key"));
        Self(SigningKey::from_slice(&bytes).unwrap())
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.0.verifying_key().to_sec1_point(false);
        let half = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let bytes = point.as_bytes();
        json!({"kty": "EC", "crv": "P-256", "x": half(&bytes[1..33]), "y": half(&bytes[33..])})
    }

    pub(crate) fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        sha256(&format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]))
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature: Signature = self.0.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
    }
}

/// Header and claims of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

/// Documents that clients would publish.
#[derive(Debug, Clone, Default)]
pub(crate) struct Documents(Arc<Mutex<BTreeMap<String, Value>>>);

impl Documents {
    pub(crate) fn publish(&self, url: &str, document: Value) {
        self.0.lock().unwrap().insert(url.to_owned(), document);
    }
}

#[async_trait]
impl ClientDocuments for Documents {
    async fn fetch(&self, url: &Url) -> Result<Bytes, DocumentError> {
        match self.0.lock().unwrap().get(url.as_str()) {
            Some(document) => Ok(document.to_string().into()),
            None => Err(DocumentError::Status { url: url.clone(), status: StatusCode::NOT_FOUND }),
        }
    }
}

/// A server that knows clients by these documents.
pub(crate) async fn world_with(documents: &Documents) -> World {
    let documents: Arc<dyn ClientDocuments> = Arc::new(documents.clone());
    World::with(|config: &mut PdsConfig| config.client_documents = Some(documents)).await
}

/// The metadata of a client on the web.
pub(crate) fn web_metadata() -> Value {
    json!({
        "client_id": WEB_CLIENT,
        "client_name": "Example app",
        "client_uri": "https://app.example.com",
        "redirect_uris": [WEB_REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": SCOPE,
        "application_type": "web",
        "dpop_bound_access_tokens": true,
        "token_endpoint_auth_method": "none",
    })
}

/// A client, with the key of its session.
pub(crate) struct Client<'a> {
    pub(crate) world: &'a World,
    pub(crate) id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    pub(crate) key: Key,
    /// For a client that proves who it is: the key and its name.
    pub(crate) assertion_key: Option<(Key, String)>,
    pub(crate) verifier: String,
    pub(crate) state: String,
    pub(crate) nonce: Mutex<Option<String>>,
}

pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) answer: Value,
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

impl<'a> Client<'a> {
    /// A program on the user's computer.
    pub(crate) fn loopback(world: &'a World, scope: &str) -> Self {
        let query = encode(&[("redirect_uri", LOOPBACK), ("scope", scope)]);
        Self::new(world, &format!("http://localhost?{query}"), LOOPBACK, scope)
    }

    pub(crate) fn new(world: &'a World, id: &str, redirect_uri: &str, scope: &str) -> Self {
        Self {
            world,
            id: id.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            scope: scope.to_owned(),
            key: Key::new(),
            assertion_key: None,
            verifier: fresh("verifier"),
            state: fresh("state"),
            nonce: Mutex::new(None),
        }
    }

    /// A client on the web that proves who it is with a key that its document holds.
    pub(crate) fn confidential(world: &'a World, documents: &Documents) -> Self {
        let key = Key::new();
        let mut jwk = key.jwk();
        jwk["kid"] = json!("one");
        let mut metadata = web_metadata();
        metadata["token_endpoint_auth_method"] = json!("private_key_jwt");
        metadata["token_endpoint_auth_signing_alg"] = json!("ES256");
        metadata["jwks"] = json!({"keys": [jwk]});
        documents.publish(WEB_CLIENT, metadata);
        let client = Self::new(world, WEB_CLIENT, WEB_REDIRECT, SCOPE);
        Self { assertion_key: Some((key, "one".into())), ..client }
    }

    pub(crate) fn now(&self) -> i64 {
        self.world.now()
    }

    /// The claims of an assertion as they should be.
    pub(crate) fn assertion_claims(&self) -> Value {
        json!({"iss": self.id, "sub": self.id, "aud": ISSUER, "jti": fresh("jti"), "iat": self.now(),
            "exp": self.now() + 60})
    }

    fn credentials(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("client_id".to_owned(), self.id.clone())];
        if let Some((key, kid)) = &self.assertion_key {
            let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
            pairs.push(("client_assertion_type".into(), ASSERTION_TYPE.into()));
            pairs.push(("client_assertion".into(), key.sign(&header, &self.assertion_claims())));
        }
        pairs
    }

    /// The claims of a proof as they should be.
    pub(crate) fn proof_claims(&self, method: &str, path: &str, token: Option<&str>) -> Value {
        let path = path.split('?').next().unwrap();
        let mut claims = json!({"jti": fresh("jti"), "htm": method, "htu": format!("{ISSUER}{path}"),
            "iat": self.now()});
        if let Some(nonce) = &*self.nonce.lock().unwrap() {
            claims["nonce"] = json!(nonce);
        }
        if let Some(token) = token {
            claims["ath"] = json!(sha256(token));
        }
        claims
    }

    pub(crate) fn proof(&self, claims: &Value) -> String {
        self.key.sign(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.jwk()}), claims)
    }

    /// A nonce of the server, learned with a request that has none.
    pub(crate) async fn learn_nonce(&self) {
        let proof = self.proof(&self.proof_claims("POST", "/oauth/par", None));
        let answer = self.post_with("/oauth/par", &[], Some(&proof)).await;
        self.take_nonce(&answer);
    }

    fn take_nonce(&self, answer: &Answer) {
        let nonce = answer.header("dpop-nonce");
        assert!(!nonce.is_empty(), "an answer without nonce: {:?}", answer.body);
        *self.nonce.lock().unwrap() = Some(nonce.to_owned());
    }

    /// A request to an endpoint, with these parameters and this proof.
    pub(crate) async fn post_with(&self, path: &str, pairs: Pairs<'_>, proof: Option<&str>) -> Answer {
        let mut all = self.credentials();
        for (name, value) in pairs {
            all.retain(|(known, _)| known != name);
            all.push(((*name).to_owned(), (*value).to_owned()));
        }
        all.retain(|(_, value)| !value.is_empty());
        if path == "/oauth/par" && pairs.is_empty() {
            all.push(("response_type".into(), "code".into()));
        }
        let all: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.world.form(path, &encode(&all), &[("dpop", proof)]).await
    }

    /// A request to an endpoint with a proof that is good.
    pub(crate) async fn post(&self, path: &str, pairs: Pairs<'_>) -> Answer {
        if self.nonce.lock().unwrap().is_none() {
            self.learn_nonce().await;
        }
        let proof = self.proof(&self.proof_claims("POST", path, None));
        let answer = self.post_with(path, pairs, Some(&proof)).await;
        self.take_nonce(&answer);
        answer
    }

    /// Pushes a request, with some parameters changed.
    pub(crate) async fn push(&self, changed: Pairs<'_>) -> Answer {
        let challenge = sha256(&self.verifier);
        let mut pairs = vec![
            ("response_type", "code"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("state", &self.state),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &self.scope),
        ];
        pairs.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        pairs.extend(changed);
        self.post("/oauth/par", &pairs).await
    }

    /// Pushes a request; gives its URI.
    pub(crate) async fn pushed(&self, changed: Pairs<'_>) -> String {
        let answer = self.push(changed).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        answer.json()["request_uri"].as_str().unwrap().to_owned()
    }

    pub(crate) fn authorize_path(&self, request_uri: &str) -> String {
        format!("/oauth/authorize?{}", encode(&[("client_id", &self.id), ("request_uri", request_uri)]))
    }

    /// The code that alice's consent gives.
    pub(crate) async fn code(&self) -> String {
        let uri = self.pushed(&[]).await;
        let back = Browser::new(self.world).approve(&self.authorize_path(&uri), ALICE, PASSWORD).await;
        assert!(back.as_str().starts_with(&self.redirect_uri), "{back}");
        assert_eq!(param(&back, "state").as_ref(), Some(&self.state));
        assert_eq!(param(&back, "iss").as_deref(), Some(ISSUER));
        param(&back, "code").unwrap_or_else(|| panic!("no code: {back}"))
    }

    pub(crate) async fn redeem(&self, code: &str, changed: Pairs<'_>) -> Answer {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("code_verifier", &self.verifier),
        ];
        pairs.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        pairs.extend(changed);
        self.post("/oauth/token", &pairs).await
    }

    /// The whole way, as alice.
    pub(crate) async fn sign_in(&self) -> Tokens {
        let code = self.code().await;
        Tokens::of(&self.redeem(&code, &[]).await)
    }

    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.post("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// A call of an XRPC method with this token and proof.
    pub(crate) async fn call_with(
        &self,
        method: Method,
        path: &str,
        token: &str,
        proof: Option<&str>,
        input: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let body = match input {
            Some(input) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(input.to_string())
            }
            None => Body::empty(),
        };
        self.world.send(request.body(body).unwrap()).await
    }

    /// A query with a proof that is good.
    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        let path = format!("/xrpc/{path}");
        let proof = self.proof(&self.proof_claims("GET", &path, Some(token)));
        self.call_with(Method::GET, &path, token, Some(&proof), None).await
    }

    /// A procedure with a proof that is good.
    pub(crate) async fn call(&self, token: &str, method: &str, input: &Value) -> Answer {
        let path = format!("/xrpc/{method}");
        let proof = self.proof(&self.proof_claims("POST", &path, Some(token)));
        self.call_with(Method::POST, &path, token, Some(&proof), Some(input)).await
    }

    pub(crate) async fn session(&self, token: &str) -> Answer {
        self.get(token, "com.atproto.server.getSession").await
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Tokens {
    #[track_caller]
    pub(crate) fn of(answer: &Answer) -> Self {
        let answer = answer.ok();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token"), answer }
    }
}

impl World {
    /// A form, with these headers.
    pub(crate) async fn form(&self, path: &str, body: &str, headers: &[(&str, Option<&str>)]) -> Answer {
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(*name, *value);
            }
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }
}

impl Answer {
    /// That an endpoint refused with this status and error; gives the description.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        let json = self.json();
        assert_eq!(json["error"], error, "{json}");
        json["error_description"].as_str().unwrap().to_owned()
    }

    pub(crate) fn html(&self) -> &str {
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A parameter of the address that a browser was sent to.
pub(crate) fn param(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// A browser: cookies, pages, forms.
pub(crate) struct Browser<'a> {
    world: &'a World,
    pub(crate) cookies: Mutex<BTreeMap<String, String>>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, cookies: Mutex::default() }
    }

    pub(crate) fn cookie(&self) -> String {
        let cookies = self.cookies.lock().unwrap();
        cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take_cookies(&self, answer: &Answer) {
        for value in answer.headers.get_all(header::SET_COOKIE) {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
    }

    /// Opens a page.
    pub(crate) async fn open(&self, path: &str) -> Answer {
        let headers = [
            ("cookie", self.cookie()),
            ("sec-fetch-mode", "navigate".into()),
            ("sec-fetch-dest", "document".into()),
            ("sec-fetch-site", "cross-site".into()),
        ];
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.world.raw(Method::GET, path, &headers).await;
        self.take_cookies(&answer);
        answer
    }

    /// Sends the form of a page that has this action, with some fields filled in.
    pub(crate) async fn submit(&self, page: &Answer, action: &str, filled: Pairs<'_>) -> Answer {
        let mut fields = fields(page.html(), action);
        for (name, value) in filled {
            fields.insert((*name).to_owned(), (*value).to_owned());
        }
        let pairs: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let cookie = self.cookie();
        let headers = [
            ("cookie", Some(cookie.as_str())),
            ("origin", Some(ISSUER)),
            ("sec-fetch-site", Some("same-origin")),
            ("sec-fetch-mode", Some("navigate")),
        ];
        let answer = self.world.form(action, &encode(&pairs), &headers).await;
        self.take_cookies(&answer);
        answer
    }

    /// The page to agree, after logging in where that is asked.
    pub(crate) async fn log_in(&self, path: &str, handle: &str, password: &str) -> Answer {
        let page = self.open(path).await;
        let filled = [("username", handle), ("password", password), ("remember", "on")];
        let answer = self.submit(&page, "/oauth/authorize/sign-in", &filled).await;
        if answer.status != StatusCode::SEE_OTHER {
            return answer;
        }
        self.open(answer.header("location")).await
    }

    /// Allows what a page asks; gives the address that the browser is sent to.
    pub(crate) async fn allow(&self, page: &Answer) -> Url {
        let answer = self.submit(page, "/oauth/authorize/consent", &[("decision", "allow")]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{:?}", answer.body);
        answer.header("location").parse().unwrap()
    }

    pub(crate) async fn approve(&self, path: &str, handle: &str, password: &str) -> Url {
        let page = self.log_in(path, handle, password).await;
        self.allow(&page).await
    }
}

/// The hidden fields of the form with this action; of several, the last one, which asks for the most.
pub(crate) fn fields(html: &str, action: &str) -> BTreeMap<String, String> {
    let start =
        html.rfind(&format!("action=\"{action}\"")).unwrap_or_else(|| panic!("no form {action}: {html}"));
    let form = html[start..].split("</form>").next().unwrap();
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&#38;", "&").replace("&amp;", "&"))
    };
    let hidden = form.split("<input type=\"hidden\"").skip(1).map(|rest| rest.split('>').next().unwrap());
    hidden.map(|tag| (attribute(tag, "name").unwrap(), attribute(tag, "value").unwrap())).collect()
}
