use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use atcr_core::syntax::{AtIdentifier, Did, Handle, Nsid, TidClock};
use axum::extract::{Path, Request, State};
use axum::handler::Handler;
use axum::http::Uri;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Router, body::Body};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    Host, NoSchemas, Params, RecordSchemas, ServerDescription, SubscribeOptions, XrpcAuth, XrpcError, blob,
    cors, read, subscribe, sync, write,
};
use crate::Repos;
use crate::blobs::Blobs;

/// A PDS as HTTP routes. Cloning shares it.
#[derive(Clone)]
pub struct Server(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) repos: Repos,
    pub(super) blobs: Blobs,
    pub(super) host: Arc<dyn Host>,
    pub(super) auth: Arc<dyn XrpcAuth>,
    pub(super) schemas: Arc<dyn RecordSchemas>,
    pub(super) subscribe: SubscribeOptions,
    /// One permit for each subscriber that may still come.
    pub(super) subscribers: Arc<Semaphore>,
    pub(super) rkeys: TidClock,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("did", &self.0.host.describe().did).finish_non_exhaustive()
    }
}

impl Server {
    /// A server over `repos` and `blobs`, which asks `host` for names and `auth` for callers.
    pub fn new(repos: Repos, blobs: Blobs, host: Arc<dyn Host>, auth: Arc<dyn XrpcAuth>) -> Self {
        // Which clock identifier a server has does not matter as long as two seldom have the same.
        let clock = getrandom::u32().map_or(0, |n| u16::try_from(n & 0x3ff).unwrap_or_default());
        Self(Arc::new(Inner {
            repos,
            blobs,
            host,
            auth,
            schemas: Arc::new(NoSchemas),
            subscribers: Arc::new(Semaphore::new(SubscribeOptions::default().subscribers)),
            subscribe: SubscribeOptions::default(),
            rkeys: TidClock::after(None, clock),
        }))
    }

    /// The server with lexicons to check records against. To be called before the server is cloned or routed.
    #[must_use]
    pub fn with_schemas(self, schemas: Arc<dyn RecordSchemas>) -> Self {
        self.changed(|inner| inner.schemas = schemas)
    }

    /// The server with other bounds for subscribers. To be called before the server is cloned or routed.
    #[must_use]
    pub fn with_subscribe_options(self, options: SubscribeOptions) -> Self {
        self.changed(|inner| {
            inner.subscribers = Arc::new(Semaphore::new(options.subscribers));
            inner.subscribe = options;
        })
    }

    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.0) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                repos: shared.repos.clone(),
                blobs: shared.blobs.clone(),
                host: shared.host.clone(),
                auth: shared.auth.clone(),
                schemas: shared.schemas.clone(),
                subscribe: shared.subscribe.clone(),
                subscribers: shared.subscribers.clone(),
                rkeys: TidClock::after(Some(shared.rkeys.now()), 0),
            },
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// All routes, ready to be served: [`Server::routes`] through [`complete`].
    pub fn router(&self) -> Router {
        complete(self.routes())
    }

    /// The methods and well-known documents, without what must stand only once in a program: merge with routes of
    /// one's own, then call [`complete`].
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/xrpc/_health", get(health))
            .route("/.well-known/did.json", get(own_document))
            .route("/.well-known/atproto-did", get(handle_document))
            .route("/xrpc/com.atproto.server.describeServer", query(describe_server))
            .route("/xrpc/com.atproto.identity.resolveHandle", query(resolve_handle))
            .route("/xrpc/com.atproto.repo.describeRepo", query(read::describe_repo))
            .route("/xrpc/com.atproto.repo.getRecord", query(read::get_record))
            .route("/xrpc/com.atproto.repo.listRecords", query(read::list_records))
            .route("/xrpc/com.atproto.repo.createRecord", procedure(write::create_record))
            .route("/xrpc/com.atproto.repo.putRecord", procedure(write::put_record))
            .route("/xrpc/com.atproto.repo.deleteRecord", procedure(write::delete_record))
            .route("/xrpc/com.atproto.repo.applyWrites", procedure(write::apply_writes))
            .route("/xrpc/com.atproto.repo.uploadBlob", procedure(blob::upload_blob))
            .route("/xrpc/com.atproto.sync.getBlob", query(blob::get_blob))
            .route("/xrpc/com.atproto.sync.listBlobs", query(blob::list_blobs))
            .route("/xrpc/com.atproto.sync.getRepo", query(sync::get_repo))
            .route("/xrpc/com.atproto.sync.getRecord", query(sync::get_record))
            .route("/xrpc/com.atproto.sync.getBlocks", query(sync::get_blocks))
            .route("/xrpc/com.atproto.sync.getLatestCommit", query(sync::get_latest_commit))
            .route("/xrpc/com.atproto.sync.getHead", query(sync::get_head))
            .route("/xrpc/com.atproto.sync.getCheckout", query(sync::get_checkout))
            .route("/xrpc/com.atproto.sync.getRepoStatus", query(sync::get_repo_status))
            .route("/xrpc/com.atproto.sync.listRepos", query(sync::list_repos))
            .route("/xrpc/com.atproto.sync.listReposByCollection", query(sync::list_repos_by_collection))
            .route("/xrpc/com.atproto.sync.subscribeRepos", query(subscribe::subscribe_repos))
            .with_state(self.clone())
    }

    /// The DID that an `at-identifier` stands for. `None` for a handle that is not known here.
    pub(super) async fn did(&self, repo: &AtIdentifier) -> Result<Option<Did>, XrpcError> {
        match repo {
            AtIdentifier::Did(did) => Ok(Some(did.clone())),
            AtIdentifier::Handle(handle) => self.0.host.resolve_handle(handle).await,
        }
    }
}

/// A route for an XRPC query: GET, and the reference server's answer to every other verb.
pub fn query<H, T, S>(handler: H) -> MethodRouter<S, Infallible>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    get(handler).fallback(|method: Method| async move { wrong_verb(&method, "GET") })
}

/// A route for an XRPC procedure: POST, and the reference server's answer to every other verb.
pub fn procedure<H, T, S>(handler: H) -> MethodRouter<S, Infallible>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    post(handler).fallback(|method: Method| async move { wrong_verb(&method, "POST") })
}

fn wrong_verb(method: &Method, expected: &str) -> XrpcError {
    XrpcError::invalid_request(format!("Incorrect HTTP method ({method}) expected {expected}"))
}

/// The method that a request calls, taken from its path.
pub fn method(uri: &Uri) -> Result<Nsid, XrpcError> {
    let name = uri.path().trim_start_matches("/xrpc/");
    name.parse().map_err(|_| XrpcError::invalid_request("Invalid xrpc path"))
}

/// Adds what a server has once: an answer for methods that nothing serves, and CORS on everything.
pub fn complete(routes: Router) -> Router {
    routes.route("/xrpc/{*method}", axum::routing::any(unknown_method)).layer(from_fn(cors::cors))
}

async fn unknown_method(Path(name): Path<String>) -> XrpcError {
    match name.parse::<Nsid>() {
        Ok(method) => XrpcError::invalid_request(format!("No service configured for {method}")),
        Err(_) => XrpcError::invalid_request("Invalid xrpc path"),
    }
}

async fn health() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

async fn own_document(State(server): State<Server>) -> Response {
    match server.0.host.own_document().await {
        Some(document) => Json(document).into_response(),
        None => (StatusCode::NOT_FOUND, "this server is not a did:web").into_response(),
    }
}

/// `/.well-known/atproto-did`: the account whose handle is the host name of the request.
async fn handle_document(State(server): State<Server>, headers: HeaderMap) -> Result<Response, XrpcError> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let did = match name.parse::<Handle>() {
        Ok(handle) => server.0.host.resolve_handle(&handle).await?,
        Err(_) => None,
    };
    Ok(match did {
        Some(did) => {
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from(did.to_string())).into_response()
        }
        None => (StatusCode::NOT_FOUND, "User not found").into_response(),
    })
}

async fn describe_server(State(server): State<Server>) -> Json<ServerDescription> {
    Json(server.0.host.describe())
}

async fn resolve_handle(State(server): State<Server>, params: Params) -> Result<Json<Value>, XrpcError> {
    let handle: Handle = params.required("handle")?;
    match server.0.host.resolve_handle(&handle).await? {
        Some(did) => Ok(Json(json!({"did": did}))),
        None => Err(XrpcError::bad("HandleNotFound", "Unable to resolve handle")),
    }
}

/// Splits a request after its caller is known: a procedure reads no body of a stranger.
pub(super) async fn authenticated(
    server: &Server,
    request: Request,
) -> Result<(Arc<dyn super::Caller>, Request), XrpcError> {
    let (parts, body) = request.into_parts();
    let caller = server.0.auth.authenticate(&method(&parts.uri)?, &parts).await?;
    Ok((caller, Request::from_parts(parts, body)))
}
