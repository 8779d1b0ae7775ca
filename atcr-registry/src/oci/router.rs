//! From a request to the endpoint that answers it.

use std::sync::Arc;
use std::time::Duration;

use atcr_core::Access;
use atcr_core::authorizer::{Action, Resource};
use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_SECURITY_POLICY, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Request};
use tracing::Instrument as _;
use uuid::Uuid;

use super::body::RequestBody;
use super::call::Call;
use super::error::ApiError;
use super::path::Path;
use super::{blobs, catalog, manifests, ping, referrers, tags, uploads};
use crate::registry::{Registry, Shared};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID: usize = 64;

/// `/v2/` and everything below it.
pub(crate) fn router(registry: Registry) -> axum::Router {
    axum::Router::new()
        .route_service("/v2", registry.clone())
        .route_service("/v2/", registry.clone())
        .route_service("/v2/{*rest}", registry)
}

pub(crate) async fn handle(shared: Arc<Shared>, request: Request<Body>) -> Response {
    let id = request_id(&request);
    let path = Path::parse(request.uri().path());
    let span = tracing::info_span!(
        "registry",
        id,
        method = %request.method(),
        endpoint = path.as_ref().map_or("none", Path::endpoint),
        repository = path.as_ref().ok().and_then(Path::repository).map(tracing::field::display),
    );
    async {
        let answer = match path {
            Ok(path) => answer(Arc::clone(&shared), path, request).await,
            Err(error) => Err(ApiError::path(error)),
        };
        let mut response = answer.unwrap_or_else(|error| error.into_response(&id));
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        headers.extend(HeaderValue::try_from(&id).ok().map(|id| (REQUEST_ID, id)));
        headers.extend(shared.warnings.iter().map(|warning| (WARNING, warning.clone())));
        // Content is what somebody pushed, under a type that they chose: no browser may take it for a page.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
        tracing::debug!(status = response.status().as_u16(), "answered");
        response
    }
    .instrument(span)
    .await
}

/// The id that a proxy in front has given the request, or a new one.
fn request_id(request: &Request<Body>) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    });
    given.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

async fn answer(shared: Arc<Shared>, path: Path, request: Request<Body>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (method, limits) = (parts.method, &shared.limits);
    let body = RequestBody::new(body, limits.body_idle);
    let request_time = limits.request_time;
    let call = Call::new(Arc::clone(&shared), parts.headers, &parts.uri)?;
    let Some(resource) = resource(&path, &method) else { return Err(ApiError::method(&path)) };
    let result = timed(request_time, carries_blob(&path, &method), async {
        let principal = call.authorize(&resource).await?;
        if !shared.deletion && matches!(resource, Resource::Repository(_, Action::Delete)) {
            return Err(ApiError::deletion_disabled());
        }
        let at = |name: &atcr_core::oci::RepositoryName| Access::new(principal.clone(), name.clone());
        match &path {
            Path::Api => Ok(ping::get()),
            Path::Catalog => catalog::list(&call, &principal).await,
            Path::Tags(name) => tags::list(&call, &at(name)).await,
            Path::Referrers(name, digest) => referrers::list(&call, &at(name), digest).await,
            Path::Manifest(name, reference) => match method {
                Method::PUT => manifests::put(&call, &at(name), reference, body).await,
                Method::DELETE => manifests::delete(&call, &at(name), reference).await,
                _ => manifests::get(&call, &at(name), reference, &method).await,
            },
            Path::Blob(name, digest) => match method {
                Method::DELETE => blobs::delete(&call, &at(name), digest).await,
                _ => blobs::get(&call, &at(name), digest, &method).await,
            },
            Path::Uploads(name) => uploads::begin(&call, &at(name), body).await,
            Path::Upload(name, token) => match method {
                Method::PATCH => uploads::append(&call, &at(name), token, body).await,
                Method::PUT => uploads::finish(&call, &at(name), token, body).await,
                Method::DELETE => uploads::cancel(&call, &at(name), token).await,
                _ => uploads::progress(&call, &at(name), token).await,
            },
        }
    })
    .await;
    match result {
        Ok(response) => Ok(response),
        Err(error) => Err(call.with_challenge(error, &resource).await),
    }
}

/// What a request touches; `None` when the endpoint does not have the method.
fn resource<'a>(path: &'a Path, method: &Method) -> Option<Resource<'a>> {
    let action = match (path, method) {
        (Path::Uploads(_), &Method::POST)
        | (
            Path::Upload(..),
            &Method::GET | &Method::HEAD | &Method::PATCH | &Method::PUT | &Method::DELETE,
        )
        | (Path::Manifest(..), &Method::PUT) => Action::Push,
        (Path::Manifest(..) | Path::Blob(..), &Method::DELETE) => Action::Delete,
        (Path::Uploads(_) | Path::Upload(..), _) => return None,
        (_, &Method::GET | &Method::HEAD) => Action::Pull,
        _ => return None,
    };
    Some(match path {
        Path::Api => Resource::Api,
        Path::Catalog => Resource::Catalog,
        Path::Tags(name)
        | Path::Referrers(name, _)
        | Path::Manifest(name, _)
        | Path::Blob(name, _)
        | Path::Uploads(name)
        | Path::Upload(name, _) => Resource::Repository(name, action),
    })
}

/// Whether a request may take as long as its blob needs; its client is watched by the idle time of the body.
fn carries_blob(path: &Path, method: &Method) -> bool {
    matches!((path, method), (Path::Uploads(_), _) | (Path::Upload(..), &Method::PATCH | &Method::PUT))
}

async fn timed<T>(
    limit: Duration,
    unlimited: bool,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    if unlimited {
        return work.await;
    }
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(ApiError::timeout()))
}
