use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::MemoryManifestStore;
use atcr_core::{Authorizer, BlobStore, ManifestStore};
use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Request};

use crate::limits::{Limits, Sparse};
use crate::oci::session::{SessionCodec, SessionKey};
use crate::oci::slots::UploadSlots;
use crate::oci::{router, warning};
use crate::running::RunningRegistry;

/// A container registry: the OCI Distribution API over a [`ManifestStore`], a [`BlobStore`] and an [`Authorizer`].
///
/// Cheap to clone; clones share everything. It is a tower service by itself, an axum router through
/// [`Registry::router`], and a running server through [`Registry::spawn`].
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

/// Everything that the endpoints need.
pub(crate) struct Shared {
    pub(crate) manifests: Arc<dyn ManifestStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) limits: Limits,
    pub(crate) sparse: Sparse,
    pub(crate) deletion: bool,
    pub(crate) warnings: Vec<HeaderValue>,
    pub(crate) sessions: SessionCodec,
    pub(crate) slots: UploadSlots,
    clock: Clock,
}

impl Shared {
    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        (self.clock)().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

impl Registry {
    /// Begins the description of a registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// A registry in memory in which everybody may do everything: for tests.
    pub fn memory() -> Self {
        let parts = RegistryBuilder::default();
        parts.assemble(
            Arc::new(MemoryManifestStore::new()),
            Arc::new(MemoryBlobStore::with_discovery()),
            Arc::new(OpenAuthorizer::default()),
        )
    }

    /// The registry as a router with the paths `/v2/…`, to be merged into another one. Not to be nested: clients
    /// look for `/v2/` at the root of a host.
    pub fn router(&self) -> axum::Router {
        router::router(self.clone())
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>) -> Response {
        router::handle(Arc::clone(&self.shared), request).await
    }

    /// Serves the registry on a free port of the loopback address until the value that is returned is dropped.
    pub async fn spawn(&self) -> std::io::Result<RunningRegistry> {
        RunningRegistry::start(self.router()).await
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { manifests, blobs, authorizer, limits, sparse, .. } = &*self.shared;
        f.debug_struct("Registry")
            .field("manifests", manifests)
            .field("blobs", blobs)
            .field("authorizer", authorizer)
            .field("limits", limits)
            .field("sparse", sparse)
            .finish_non_exhaustive()
    }
}

impl<B> tower::Service<Request<B>> for Registry
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let request = request.map(Body::new);
        Box::pin(async move { Ok(router::handle(shared, request).await) })
    }
}

/// The description of a [`Registry`]. Stores and authorizer are required, everything else has a default.
pub struct RegistryBuilder {
    manifests: Option<Arc<dyn ManifestStore>>,
    blobs: Option<Arc<dyn BlobStore>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    limits: Limits,
    sparse: Sparse,
    deletion: bool,
    warnings: Vec<String>,
    key: Option<SessionKey>,
    previous_key: Option<SessionKey>,
    clock: Clock,
}

impl Default for RegistryBuilder {
    fn default() -> Self {
        Self {
            manifests: None,
            blobs: None,
            authorizer: None,
            limits: Limits::default(),
            sparse: Sparse::default(),
            deletion: true,
            warnings: Vec::new(),
            key: None,
            previous_key: None,
            clock: Box::new(SystemTime::now),
        }
    }
}

impl Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("manifests", &self.manifests)
            .field("blobs", &self.blobs)
            .field("authorizer", &self.authorizer)
            .finish_non_exhaustive()
    }
}

impl RegistryBuilder {
    /// Where manifests and tags are kept.
    #[must_use]
    pub fn manifests(self, manifests: Arc<dyn ManifestStore>) -> Self {
        Self { manifests: Some(manifests), ..self }
    }

    /// Where blobs are kept.
    #[must_use]
    pub fn blobs(self, blobs: Arc<dyn BlobStore>) -> Self {
        Self { blobs: Some(blobs), ..self }
    }

    /// Who may do what.
    #[must_use]
    pub fn authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer: Some(authorizer), ..self }
    }

    /// How much of anything is accepted.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whether manifests may name content that is not there.
    #[must_use]
    pub fn sparse(self, sparse: Sparse) -> Self {
        Self { sparse, ..self }
    }

    /// Whether tags, manifests and blobs can be deleted at all. Default `true`; otherwise DELETE is 405.
    #[must_use]
    pub fn deletion(self, allowed: bool) -> Self {
        Self { deletion: allowed, ..self }
    }

    /// Adds a text that clients show to their user with every answer (distribution specification, Warnings).
    #[must_use]
    pub fn warning(mut self, text: impl Into<String>) -> Self {
        self.warnings.push(text.into());
        self
    }

    /// The key that upload sessions are authenticated with: the same for all replicas, kept over restarts. Without
    /// it a random one is made, and uploads do not survive a restart.
    #[must_use]
    pub fn session_key(self, key: SessionKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// A key that was [`session_key`](Self::session_key) before: sessions begun with it go on.
    #[must_use]
    pub fn previous_session_key(self, key: SessionKey) -> Self {
        Self { previous_key: Some(key), ..self }
    }

    /// Where the time comes from, for tests. Default [`SystemTime::now`].
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// The registry.
    pub fn build(mut self) -> Result<Registry, BuildError> {
        let manifests = self.manifests.take().ok_or(BuildError::Missing("manifests"))?;
        let blobs = self.blobs.take().ok_or(BuildError::Missing("blobs"))?;
        let authorizer = self.authorizer.take().ok_or(BuildError::Missing("authorizer"))?;
        Ok(self.assemble(manifests, blobs, authorizer))
    }

    fn assemble(
        self,
        manifests: Arc<dyn ManifestStore>,
        blobs: Arc<dyn BlobStore>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Registry {
        let key = self.key.unwrap_or_else(SessionKey::random);
        let shared = Shared {
            manifests,
            blobs,
            authorizer,
            sessions: SessionCodec::new(key, self.previous_key, self.limits.upload_idle),
            slots: UploadSlots::new(self.limits.concurrent_uploads),
            limits: self.limits,
            sparse: self.sparse,
            deletion: self.deletion,
            warnings: warning::headers(&self.warnings),
            clock: self.clock,
        };
        Registry { shared: Arc::new(shared) }
    }
}

/// Why a [`RegistryBuilder`] could not build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A required part was not given.
    #[error("a registry needs {0}: call `.{0}(…)` before `.build()`")]
    Missing(&'static str),
}
