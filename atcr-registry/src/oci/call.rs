//! One request, as the endpoints see it.

use std::sync::Arc;

use atcr_core::authorizer::{Action, Credentials, Rejection, Resource};
use atcr_core::oci::RepositoryName;
use atcr_core::{Access, Principal};
use axum::extract::Query;
use http::header::{AsHeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode, Uri};

use super::error::{ApiError, ErrorCode};
use super::slots::Slot;
use crate::registry::Shared;

pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    credentials: Credentials,
}

impl Call {
    pub(crate) fn new(shared: Arc<Shared>, headers: HeaderMap, uri: &Uri) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(uri).map_err(|_| {
            ApiError::bad_request(ErrorCode::Unsupported, "the query of the URL cannot be read")
        })?;
        let credentials = Credentials::from_headers(&headers);
        Ok(Self { shared, headers, query: query.0, credentials })
    }

    /// A header's value, where it is text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first query parameter of this name.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    /// Every query parameter of this name.
    pub(crate) fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Who is calling, if they may do this.
    pub(crate) async fn authorize(&self, resource: &Resource<'_>) -> Result<Principal, ApiError> {
        Ok(self.shared.authorizer.authorize(&self.credentials, resource).await?)
    }

    /// Whether the caller may pull from this repository, by these credentials or because everybody may.
    pub(crate) async fn may_pull(&self, name: &RepositoryName) -> bool {
        let (authorizer, resource) = (&self.shared.authorizer, Resource::Repository(name, Action::Pull));
        authorizer.authorize(&self.credentials, &resource).await.is_ok() || authorizer.is_public(name).await
    }

    /// A place among the caller's uploads.
    pub(crate) fn upload_slot(&self, access: &Access) -> Result<Slot, ApiError> {
        self.shared.slots.take(&access.principal).ok_or_else(|| {
            let limit = self.shared.limits.concurrent_uploads;
            let message = format!("more than {limit} uploads at the same time; wait for one of them to end");
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
                .header(http::header::RETRY_AFTER, 1)
        })
    }

    /// Gives a 401 the challenge that every 401 must have: a store that asks for credentials knows of none.
    pub(crate) async fn with_challenge(&self, error: ApiError, resource: &Resource<'_>) -> ApiError {
        if error.status != StatusCode::UNAUTHORIZED || error.has_header(&WWW_AUTHENTICATE) {
            return error;
        }
        let challenge = match self.shared.authorizer.authorize(&Credentials::None, resource).await {
            Err(Rejection::Challenge { www_authenticate, .. }) => www_authenticate,
            _ => "Basic realm=\"registry\"".to_owned(),
        };
        error.header(WWW_AUTHENTICATE, challenge)
    }
}
