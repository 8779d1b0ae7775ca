use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use atcr_auth::browser::BrowserStore;
use atcr_auth::oauth::{ClientKeys, ClientRegistration, Es256Key};
use atcr_auth::pds_session::{MemorySessionStore, SessionStore};
use atcr_auth::{AccountSessions, Browsers, Clock, OAuthClient, WebSignIn};
use atcr_core::did_resolver::{
    CacheLimits, CachingResolver, IdentityResolver, PlcResolver, XrpcHandleResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::syntax::Did;
use atcr_pds::accounts::{ClientDocuments, DocumentError, Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt as _;
use url::Url;

pub(crate) const ALICE: &str = "alice.test";
pub(crate) const BOB: &str = "bob.test";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const REGISTRY: &str = "http://127.0.0.1:5000";
pub(crate) const WEB_REGISTRY: &str = "https://registry.example.com";
pub(crate) const TOKEN: &str = "/oauth/token";
pub(crate) const PAR: &str = "/oauth/par";
pub(crate) const RESOURCE: &str = "/.well-known/oauth-protected-resource";
pub(crate) const SERVER: &str = "/.well-known/oauth-authorization-server";

/// What the wire does to an answer.
pub(crate) enum Lie {
    /// Changes its JSON.
    Json(Box<dyn Fn(&mut Value) + Send>),
    /// Gives another one.
    Instead(StatusCode, HeaderMap, Vec<u8>),
    /// Takes a header away.
    Without(&'static str),
    /// Loses it on the way.
    Lost,
    /// Never comes, though all went well.
    Never,
}

/// Counts requests by path, and lies where it is told to.
#[derive(Default)]
pub(crate) struct Wire {
    calls: Mutex<BTreeMap<String, usize>>,
    successes: Mutex<BTreeMap<String, usize>>,
    lies: Mutex<HashMap<&'static str, (usize, Lie)>>,
}

impl Wire {
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.calls.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// Those that the server did not refuse.
    pub(crate) fn successes(&self, path: &str) -> usize {
        self.successes.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    /// All requests since the last time, by path.
    pub(crate) fn take_calls(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    /// From now on.
    pub(crate) fn lie(&self, path: &'static str, lie: Lie) {
        self.lies.lock().unwrap().insert(path, (usize::MAX, lie));
    }

    /// The next time only.
    pub(crate) fn lie_once(&self, path: &'static str, lie: Lie) {
        self.lies.lock().unwrap().insert(path, (1, lie));
    }

    pub(crate) fn change(&self, path: &'static str, change: impl Fn(&mut Value) + Send + 'static) {
        self.lie(path, Lie::Json(Box::new(change)));
    }

    pub(crate) fn honest(&self) {
        self.lies.lock().unwrap().clear();
    }
}

async fn wire(State(wire): State<Arc<Wire>>, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    *wire.calls.lock().unwrap().entry(path.clone()).or_default() += 1;
    // The server ends what it has begun, and it counts, also when nobody waits for the answer any more.
    let (serving, served) = (Arc::clone(&wire), path.clone());
    let answer = tokio::spawn(async move {
        let response = next.run(request).await;
        if response.status().is_success() {
            *serving.successes.lock().unwrap().entry(served).or_default() += 1;
        }
        response
    });
    let (mut parts, body) = answer.await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let never = {
        let mut lies = wire.lies.lock().unwrap();
        let Some((times, lie)) = lies.get_mut(path.as_str()) else {
            return Response::from_parts(parts, body.into());
        };
        if matches!(lie, Lie::Never) && !parts.status.is_success() {
            return Response::from_parts(parts, body.into());
        }
        let lied = match lie {
            Lie::Json(change) => {
                let mut json = serde_json::from_slice(&body).unwrap();
                change(&mut json);
                parts.headers.remove(header::CONTENT_LENGTH);
                Some(Response::from_parts(parts, json.to_string().into()))
            }
            Lie::Instead(status, headers, body) => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = *status;
                *response.headers_mut() = headers.clone();
                Some(response)
            }
            Lie::Without(name) => {
                parts.headers.remove(*name);
                Some(Response::from_parts(parts, body.into()))
            }
            Lie::Lost => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                Some(response)
            }
            Lie::Never => None,
        };
        *times -= 1;
        if *times == 0 {
            lies.remove(path.as_str());
        }
        lied
    };
    match never {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

/// Gives the PDS the documents of the registry under test, which stands at no address.
#[derive(Debug, Default)]
pub(crate) struct Documents(Mutex<Option<Router>>);

#[async_trait::async_trait]
impl ClientDocuments for Documents {
    async fn fetch(&self, url: &Url) -> Result<Bytes, DocumentError> {
        let router = self.0.lock().unwrap().clone().expect("the registry is there");
        let response = router.oneshot(Request::get(url.path()).body(Body::empty()).unwrap()).await.unwrap();
        match response.status() {
            StatusCode::OK => Ok(to_bytes(response.into_body(), 1 << 20).await.unwrap()),
            status => Err(DocumentError::Status { url: url.clone(), status }),
        }
    }
}

/// A PDS and its directory, on loopback.
pub(crate) struct World {
    pub(crate) pds: Pds,
    pub(crate) url: Url,
    pub(crate) issuer: String,
    pub(crate) plc: Url,
    pub(crate) wire: Arc<Wire>,
    pub(crate) alice: Did,
    pub(crate) bob: Did,
    pub(crate) policy: EgressPolicy,
    documents: Arc<Documents>,
}

async fn serve(make: impl FnOnce(&Url) -> Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let router = make(&url);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

impl World {
    pub(crate) async fn start() -> Self {
        let wire_: Arc<Wire> = Arc::default();
        let directory = Directory::open(None, atcr_pds::Clock::system()).await.unwrap();
        let counted = |router: Router| router.layer(from_fn_with_state(wire_.clone(), wire));
        let plc = serve(|_| counted(directory.router())).await;
        let documents: Arc<Documents> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let mut config = PdsConfig::new(url.clone(), Arc::new(directory));
        config.client_documents = Some(documents.clone());
        let pds = Pds::open(config).await.unwrap();
        let alice = pds.ensure_account(&ALICE.parse().unwrap(), PASSWORD, "a@example.test").await.unwrap();
        let bob = pds.ensure_account(&BOB.parse().unwrap(), PASSWORD, "b@example.test").await.unwrap();
        let router = counted(pds.router());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let issuer = url.origin().ascii_serialization();
        let policy = EgressPolicy::development();
        Self { pds, issuer, url, plc, wire: wire_, alice, bob, policy, documents }
    }

    pub(crate) fn identities(&self, egress: &Egress) -> IdentityResolver {
        let plc = PlcResolver::new(egress.clone(), self.plc.clone());
        let handles = XrpcHandleResolver::new(egress.clone(), self.url.clone());
        IdentityResolver::new(Arc::new(CachingResolver::new(plc, CacheLimits::default())), Arc::new(handles))
    }

    /// A registry at this URL that keeps its sessions here.
    pub(crate) fn registry_with<S: SessionStore + BrowserStore>(
        &self,
        base: &str,
        store: Arc<S>,
        keys: ClientKeys,
    ) -> Registry {
        let egress = Egress::new(self.policy.clone()).unwrap();
        let identities = self.identities(&egress);
        let registration = ClientRegistration::new(&base.parse().unwrap(), "ATCR test", keys).unwrap();
        let client = OAuthClient::new(registration, egress.clone(), Clock::system());
        let sessions = AccountSessions::new(identities, egress, store.clone(), Clock::system()).unwrap();
        let sessions = sessions.with_oauth(client);
        let web = WebSignIn::new(sessions.clone(), store.clone(), Clock::system()).unwrap();
        let registry = Registry {
            base: base.parse().unwrap(),
            browsers: web.browsers().clone(),
            router: web.router(),
            sessions,
            store,
        };
        *self.documents.0.lock().unwrap() = Some(registry.router.clone());
        registry
    }

    /// A registry on loopback that forgets.
    pub(crate) fn registry(&self) -> Registry {
        let keys = ClientKeys::new(Es256Key::generate().unwrap());
        self.registry_with(REGISTRY, Arc::new(MemorySessionStore::default()), keys)
    }

    /// What somebody does at their PDS: logs in and agrees. Gives where the browser is sent.
    pub(crate) async fn approve(&self, url: &Url, handle: &str, decision: &str) -> Url {
        let mut browser = Visitor::new(self.pds.router(), self.url.clone());
        let page = browser.get(&path_of(url)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        let filled = [("username", handle), ("password", PASSWORD)];
        let answer = browser.submit(&page, "/oauth/authorize/sign-in", &filled).await;
        let page = browser.get(answer.location()).await;
        let answer = browser.submit(&page, "/oauth/authorize/consent", &[("decision", decision)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        answer.location().parse().unwrap()
    }
}

pub(crate) fn path_of(url: &Url) -> String {
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

/// A registry's sign-in under test.
pub(crate) struct Registry {
    pub(crate) base: Url,
    pub(crate) router: Router,
    pub(crate) sessions: AccountSessions,
    pub(crate) browsers: Browsers,
    pub(crate) store: Arc<dyn SessionStore>,
}

impl Registry {
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::new(self.router.clone(), self.base.clone())
    }

    /// Begins a sign-in; gives where the browser is sent.
    pub(crate) async fn begin(&self, visitor: &mut Visitor, handle: &str) -> Url {
        let answer = visitor.get(&format!("/auth/oauth/login?handle={handle}&return_to=/device")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        answer.location().parse().unwrap()
    }

    /// The whole way, up to the answer of the callback.
    pub(crate) async fn sign_in(&self, world: &World, visitor: &mut Visitor, handle: &str) -> Answer {
        let url = self.begin(visitor, handle).await;
        let back = world.approve(&url, handle, "allow").await;
        visitor.get(&path_of(&back)).await
    }
}

/// A browser at one site: cookies, pages, forms.
#[derive(Clone)]
pub(crate) struct Visitor {
    router: Router,
    base: Url,
    pub(crate) cookies: BTreeMap<String, String>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn location(&self) -> &str {
        let location = self.headers.get(header::LOCATION);
        location.unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.text())).to_str().unwrap()
    }
}

impl Visitor {
    fn new(router: Router, base: Url) -> Self {
        Self { router, base, cookies: BTreeMap::new() }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let pairs: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        HeaderMap::from_iter([(header::COOKIE, pairs.join("; ").parse().unwrap())])
    }

    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> Answer {
        request.headers_mut().extend(self.headers());
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        for value in parts.headers.get_all(header::SET_COOKIE) {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let body = to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)], origin: Option<&str>) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Sends the form of a page that has this action, with some fields filled in.
    pub(crate) async fn submit(&mut self, page: &Answer, action: &str, filled: &[(&str, &str)]) -> Answer {
        let hidden = hidden_fields(page.text(), action);
        let mut fields: Vec<(&str, &str)> =
            hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.extend(filled);
        let origin = self.base.origin().ascii_serialization();
        self.post(action, &fields, Some(&origin)).await
    }
}

/// The hidden fields of the form with this action.
fn hidden_fields(html: &str, action: &str) -> Vec<(String, String)> {
    let start =
        html.find(&format!("action=\"{action}\"")).unwrap_or_else(|| panic!("no form {action}: {html}"));
    let form = &html[start..];
    let form = &form[..form.find("</form>").unwrap()];
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split(&format!("{name}=\"")).nth(1)?;
        let value = rest.split('"').next()?;
        Some(value.replace("&#38;", "&").replace("&amp;", "&").replace("&#x27;", "'"))
    };
    let tags = form.split("<input ").skip(1).filter(|tag| tag.starts_with("type=\"hidden\""));
    tags.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?))).collect()
}
