use std::sync::Arc;

use atcr_core::syntax::Did;
use atcr_core::{Access, Account as Caller, ManifestStore, Principal, Proof};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post};
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use url::Url;

use super::brand::Brand;
use super::domain::RegistryDomain;
use super::error::PageError;
use super::image_config::Configs;
use super::page::Visitor;
use super::report::Reports;
use super::visitors::{Content, Person, Visitors};
use super::{
    api, assets, avatar, edit, error, feed, forms, home, install, live, manifest, owner, repository, scan,
    search, settings, webhooks,
};
use crate::hold_health::{Health, HoldHealth};
use crate::index::{Index, Profile};
use crate::webhooks::Webhooks;

/// Pages that are open and wait for changes, at most.
const LISTENERS: usize = 1000;
/// The longest form without a picture, in bytes.
const FORM: usize = 64 * 1024;

/// The pages of a registry.
#[derive(Debug, Clone)]
pub struct WebUi(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    index: Index,
    base: Url,
    brand: Arc<Brand>,
    domains: Arc<[RegistryDomain]>,
    desk: Option<Desk>,
    content: Option<Arc<dyn Content>>,
    webhooks: Option<Webhooks>,
    configs: Configs,
    reports: Reports,
    health: Option<HoldHealth>,
    listeners: Arc<Semaphore>,
}

/// What people who are signed in need.
#[derive(Debug, Clone)]
struct Desk {
    visitors: Arc<dyn Visitors>,
    manifests: Arc<dyn ManifestStore>,
}

impl WebUi {
    /// The pages of the registry at `base_url`, which is called `name`.
    #[must_use]
    pub fn new(index: Index, base_url: &Url, name: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            index,
            base: base_url.clone(),
            brand: Arc::new(Brand::new(name)),
            domains: Arc::default(),
            desk: None,
            content: None,
            webhooks: None,
            configs: Configs::default(),
            reports: Reports::default(),
            health: None,
            listeners: Arc::new(Semaphore::new(LISTENERS)),
        }))
    }

    /// People sign in, and change what is theirs; tags and manifests in this store, which must be the one that the
    /// index follows. Without it the pages are the same for everybody.
    #[must_use]
    pub fn with_visitors(mut self, visitors: Arc<dyn Visitors>, manifests: Arc<dyn ManifestStore>) -> Self {
        Arc::make_mut(&mut self.0).desk = Some(Desk { visitors, manifests });
        self
    }

    /// Shows what images are made of, and pictures of repositories.
    #[must_use]
    pub fn with_content(mut self, content: Arc<dyn Content>) -> Self {
        Arc::make_mut(&mut self.0).content = Some(content);
        self
    }

    /// People who are signed in have programs told of what is pushed; whoever made the webhooks runs them.
    #[must_use]
    pub fn with_webhooks(mut self, webhooks: Webhooks) -> Self {
        Arc::make_mut(&mut self.0).webhooks = Some(webhooks);
        self
    }

    /// What the registry is called, and looks like.
    #[must_use]
    pub fn with_brand(mut self, brand: Brand) -> Self {
        Arc::make_mut(&mut self.0).brand = Arc::new(brand);
        self
    }

    /// The names that stand before those of images: the first one, or another one that somebody has chosen. Without any
    /// it is that of the base URL.
    #[must_use]
    pub fn with_domains(mut self, domains: Vec<RegistryDomain>) -> Self {
        Arc::make_mut(&mut self.0).domains = domains.into();
        self
    }

    /// Says where a hold does not answer. Somebody must [run](HoldHealth::run) it.
    #[must_use]
    pub fn with_hold_health(mut self, health: HoldHealth) -> Self {
        Arc::make_mut(&mut self.0).health = Some(health);
        self
    }

    /// The routes, for a server's root.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(home::show))
            .route("/search", get(search::show))
            .route("/install", get(install::show))
            .route("/install.sh", get(install::shell))
            .route("/install.ps1", get(install::powershell))
            .route("/u/{owner}", get(owner::show))
            .route("/r/{owner}/{*rest}", get(repository_or_manifest))
            .route("/vulnerabilities/{owner}/{*rest}", get(scan::show))
            .route("/edit/{owner}/{*repository}", get(edit::show))
            .route("/avatar/{owner}/{*repository}", get(avatar::show))
            .route("/feed/{owner}/{*repository}", get(feed::show))
            .route("/live/{owner}", get(live::listen))
            .route("/assets/{name}", get(assets::serve))
            .route("/settings", get(settings::show).post(settings::save))
            .route("/settings/delete", post(settings::delete))
            .route("/settings/webhooks", post(webhooks::add))
            .route("/settings/webhooks/test", post(webhooks::test))
            .route("/settings/webhooks/delete", post(webhooks::delete))
            .route("/actions/star", post(forms::star))
            .route("/actions/delete-tag", post(forms::delete_tag))
            .route("/actions/move-tag", post(forms::move_tag))
            .route("/actions/delete-manifest", post(forms::delete_manifest))
            .layer(DefaultBodyLimit::max(FORM))
            .merge(
                Router::new()
                    .nest("/api/v1", api::router())
                    .route("/actions/page", post(edit::save))
                    .layer(DefaultBodyLimit::max(edit::MAX_FORM)),
            )
            .layer(from_fn_with_state(self.clone(), error::frame))
            .with_state(self.clone())
    }

    pub(super) fn index(&self) -> &Index {
        &self.0.index
    }

    pub(super) fn brand(&self) -> &Arc<Brand> {
        &self.0.brand
    }

    pub(super) fn domains(&self) -> &[RegistryDomain] {
        &self.0.domains
    }

    /// What stands before the names of images.
    pub(super) fn host(&self) -> &str {
        self.0.domains.first().map_or(self.0.base.authority(), RegistryDomain::as_str)
    }

    /// The same for somebody with these settings.
    pub(super) fn host_for(&self, profile: Option<&Profile>) -> &str {
        let chosen = profile.and_then(|profile| profile.registry_domain.as_deref());
        let ours = chosen.and_then(|chosen| self.0.domains.iter().find(|domain| domain.is(chosen)));
        ours.map_or(self.host(), RegistryDomain::as_str)
    }

    /// The settings of whoever looks.
    pub(super) async fn profile_of(&self, visitor: &Visitor) -> Result<Option<Profile>, PageError> {
        match &visitor.person {
            Some(person) => Ok(self.index().profile(&person.did).await?),
            None => Ok(None),
        }
    }

    /// The whole address of a path that begins with a slash.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.0.base.origin().ascii_serialization())
    }

    pub(super) fn listeners(&self) -> &Arc<Semaphore> {
        &self.0.listeners
    }

    pub(super) fn visitors(&self) -> Option<&dyn Visitors> {
        self.0.desk.as_ref().map(|desk| &*desk.visitors)
    }

    pub(super) fn manifests(&self) -> Option<&dyn ManifestStore> {
        self.0.desk.as_ref().map(|desk| &*desk.manifests)
    }

    pub(super) fn content(&self) -> Option<&dyn Content> {
        self.0.content.as_deref()
    }

    pub(super) fn webhooks(&self) -> Option<&Webhooks> {
        self.0.webhooks.as_ref()
    }

    /// How a hold is, where it was asked.
    pub(super) fn health(&self, hold: &Did) -> Option<Health> {
        self.0.health.as_ref()?.of(hold)
    }

    pub(super) fn configs(&self) -> &Configs {
        &self.0.configs
    }

    pub(super) fn reports(&self) -> &Reports {
        &self.0.reports
    }

    /// Who is signed in, or where they sign in and come back to `return_to`.
    pub(super) async fn person(&self, headers: &HeaderMap, return_to: &str) -> Result<Person, PageError> {
        let Some(visitors) = self.visitors() else {
            return Err(PageError::NotFound("Nobody can sign in here.".to_owned()));
        };
        let person = visitors.signed_in(headers).await?;
        person.ok_or_else(|| PageError::SignIn(visitors.sign_in_path(return_to)))
    }

    /// Refuses what a page of another site has sent, as far as the browser tells.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), PageError> {
        let text = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let own = self.0.base.origin().ascii_serialization();
        let origin = text("origin").is_none_or(|origin| origin == own.as_bytes());
        let site = text("sec-fetch-site").is_none_or(|site| site == b"same-origin");
        if origin && site { Ok(()) } else { Err(PageError::ForeignForm) }
    }

    /// Refuses a form that was not made for this browser, or that a page of another site has sent.
    pub(super) fn check_form(
        &self,
        headers: &HeaderMap,
        person: &Person,
        token: &str,
    ) -> Result<(), PageError> {
        self.check_origin(headers)?;
        // Hashes, so that how long it takes says nothing of the token.
        let same = Sha256::digest(token) == Sha256::digest(&person.form_token);
        if same && !token.is_empty() { Ok(()) } else { Err(PageError::ForeignForm) }
    }

    /// Somebody at a repository of theirs.
    pub(super) fn access(person: &Person, name: &str) -> Result<Access, PageError> {
        let whole = format!("{}/{name}", person.did.to_hyphenated()).parse().ok();
        // A DID that cannot stand in an image's name has a handle for that.
        let whole = whole.or_else(|| format!("{}/{name}", person.handle.as_ref()?).parse().ok());
        let Some(repository) = whole else {
            return Err(PageError::Invalid(format!("{} cannot name an image", person.did)));
        };
        let caller = Caller { did: person.did.clone(), handle: person.handle.clone(), proof: Proof::OAuth };
        Ok(Access::new(Principal::Account(caller), repository))
    }
}

/// What is below an owner is told apart by how it ends: a path has no more than one wildcard.
async fn repository_or_manifest(
    State(ui): State<WebUi>,
    Path((owner, rest)): Path<(String, String)>,
    Query(ask): Query<repository::Ask>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    match rest.split_once('@') {
        Some((name, digest)) => manifest::show(&ui, visitor, &owner, name, digest).await,
        None => repository::show(&ui, visitor, &owner, &rest, ask, &headers).await,
    }
}
