use std::sync::Arc;

use atcr_auth::browser::Browsers;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;
use tokio::sync::Semaphore;
use url::Url;

use super::error::PageError;
use super::page::Visitor;
use super::{api, assets, home, install, live, manifest, owner, repository, search};
use crate::index::Index;

/// Pages that are open and wait for changes, at most.
const LISTENERS: usize = 1000;

/// The pages of a registry.
#[derive(Debug, Clone)]
pub struct WebUi(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    index: Index,
    host: String,
    name: String,
    browsers: Option<Browsers>,
    listeners: Arc<Semaphore>,
}

impl WebUi {
    /// The pages of the registry at `base_url`, which is called `name`.
    #[must_use]
    pub fn new(index: Index, base_url: &Url, name: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            index,
            host: base_url.authority().to_owned(),
            name: name.into(),
            browsers: None,
            listeners: Arc::new(Semaphore::new(LISTENERS)),
        }))
    }

    /// People sign in with these browsers. Without it the pages are the same for everybody.
    #[must_use]
    pub fn with_browsers(self, browsers: Browsers) -> Self {
        let Inner { index, host, name, listeners, .. } = &*self.0;
        Self(Arc::new(Inner {
            index: index.clone(),
            host: host.clone(),
            name: name.clone(),
            browsers: Some(browsers),
            listeners: Arc::clone(listeners),
        }))
    }

    /// The routes, for a server's root.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(home::show))
            .route("/search", get(search::show))
            .route("/install", get(install::show))
            .route("/u/{owner}", get(owner::show))
            .route("/r/{owner}/{*rest}", get(repository_or_manifest))
            .route("/live/{owner}", get(live::listen))
            .route("/assets/{name}", get(assets::serve))
            .nest("/api/v1", api::router())
            .with_state(self.clone())
    }

    pub(super) fn index(&self) -> &Index {
        &self.0.index
    }

    /// What stands before the names of images.
    pub(super) fn host(&self) -> &str {
        &self.0.host
    }

    pub(super) fn listeners(&self) -> &Arc<Semaphore> {
        &self.0.listeners
    }

    pub(super) async fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, PageError> {
        let signed_in = match &self.0.browsers {
            Some(browsers) => browsers.signed_in(headers).await?,
            None => None,
        };
        let who = signed_in.map(|signed_in| match signed_in.handle() {
            Some(handle) => handle.to_string(),
            None => signed_in.did().to_string(),
        });
        Ok(Visitor::new(&self.0.name, self.0.browsers.is_some(), who))
    }
}

/// What is below an owner is told apart by how it ends: a path has no more than one wildcard.
async fn repository_or_manifest(
    State(ui): State<WebUi>,
    Path((owner, rest)): Path<(String, String)>,
    Query(ask): Query<repository::Ask>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let visitor = ui.visitor(&headers).await?;
    match rest.split_once('@') {
        Some((name, digest)) => manifest::show(&ui, visitor, &owner, name, digest).await,
        None => repository::show(&ui, visitor, &owner, &rest, ask, &headers).await,
    }
}
