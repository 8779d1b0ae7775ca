//! The calls to a PDS, with what `XrpcClient` leaves out: procedures without a body, and when a rate limit ends.

use std::time::Duration;

use atcr_core::egress::Egress;
use atcr_core::syntax::Did;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::clock::{Clock, until};

/// The answers of session methods are this small, DID document included.
const MAX_ANSWER: usize = 256 * 1024;

/// What createSession and refreshSession answer, as far as it is used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionOutput {
    pub(super) did: Did,
    pub(super) access_jwt: String,
    pub(super) refresh_jwt: String,
}

/// A refusal, and when the PDS says to come back.
pub(super) struct Refusal {
    pub(super) error: XrpcError,
    pub(super) retry_after: Option<Duration>,
}

impl From<XrpcError> for Refusal {
    fn from(error: XrpcError) -> Self {
        Self { error, retry_after: None }
    }
}

/// One call in an account's name.
pub(super) enum Call<'a> {
    Query { method: &'a str, params: &'a [(&'a str, &'a str)] },
    Procedure { method: &'a str, input: &'a Value },
    Upload { method: &'a str, content_type: &'a str, body: Bytes },
}

/// A PDS behind the egress gate.
#[derive(Debug, Clone)]
pub(super) struct Pds {
    egress: Egress,
    clock: Clock,
}

impl Pds {
    pub(super) fn new(egress: Egress, clock: Clock) -> Self {
        Self { egress, clock }
    }

    /// The longest that a call of a session method takes.
    pub(super) fn timeout(&self) -> Duration {
        self.egress.policy().total_timeout
    }

    pub(super) async fn create_session(
        &self,
        pds: &Url,
        did: &Did,
        password: &str,
    ) -> Result<SessionOutput, Refusal> {
        let client = XrpcClient::new(self.egress.clone(), pds.clone());
        let input = json!({ "identifier": did, "password": password });
        self.post(&client, "com.atproto.server.createSession", &input).await
    }

    pub(super) async fn refresh_session(&self, pds: &Url, refresh: &str) -> Result<SessionOutput, XrpcError> {
        let client = XrpcClient::new(self.egress.clone(), pds.clone()).with_bearer(refresh);
        self.post(&client, "com.atproto.server.refreshSession", &Value::Null).await.map_err(|e| e.error)
    }

    pub(super) async fn delete_session(&self, pds: &Url, refresh: &str) -> Result<(), XrpcError> {
        let client = XrpcClient::new(self.egress.clone(), pds.clone()).with_bearer(refresh);
        let done: Result<Value, _> =
            self.post(&client, "com.atproto.server.deleteSession", &Value::Null).await;
        done.map(drop).map_err(|e| e.error)
    }

    pub(super) async fn call(&self, pds: &Url, access: &str, call: &Call<'_>) -> Result<Value, XrpcError> {
        let client = XrpcClient::new(self.egress.clone(), pds.clone()).with_bearer(access);
        match call {
            Call::Query { method, params } => client.query(method, params).await,
            // A body where a method takes none is refused by the reference.
            Call::Procedure { method, input: Value::Null } => {
                self.post(&client, method, &Value::Null).await.map_err(|e| e.error)
            }
            Call::Procedure { method, input } => client.procedure(method, input).await,
            Call::Upload { method, content_type, body } => {
                client.upload(method, content_type, body.clone()).await
            }
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        client: &XrpcClient,
        method: &str,
        input: &Value,
    ) -> Result<T, Refusal> {
        let mut request = client.begin(Method::POST, method)?.timeout(self.timeout());
        if !input.is_null() {
            request = request.json(input);
        }
        let response = self.egress.send(request).await.map_err(XrpcError::from)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.egress.read(response, MAX_ANSWER).await.map_err(XrpcError::from)?;
        if !status.is_success() {
            return Err(Refusal {
                error: client.refusal(method, status, &body),
                retry_after: self.retry_after(status, &headers),
            });
        }
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|source| {
            XrpcError::Unreadable {
                service: client.service().origin().ascii_serialization(),
                method: method.to_owned(),
                source,
            }
            .into()
        })
    }

    fn retry_after(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        if status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u32>().ok();
        let relative = number("retry-after").map(|seconds| Duration::from_secs(seconds.into()));
        // The reference names the moment, in seconds since 1970.
        relative.or_else(|| number("ratelimit-reset").map(|at| until(at.into(), self.clock.unix())))
    }
}
