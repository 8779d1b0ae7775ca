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

use super::{SessionError, StoredSession};
use crate::clock::{Clock, until};
use crate::oauth::{Dpop, OAuthGrant};

/// The answers of session methods are this small, DID document included.
const MAX_ANSWER: usize = 256 * 1024;
/// Those of other methods: a page of listRecords with 100 records of 1 MB is bounded by this too.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

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

impl Call<'_> {
    fn method(&self) -> &str {
        match self {
            Self::Query { method, .. } | Self::Procedure { method, .. } | Self::Upload { method, .. } => {
                method
            }
        }
    }
}

/// A PDS behind the egress gate.
#[derive(Debug, Clone)]
pub(super) struct Pds {
    egress: Egress,
    clock: Clock,
    dpop: Dpop,
}

impl Pds {
    pub(super) fn new(egress: Egress, clock: Clock) -> Self {
        Self { dpop: Dpop::new(clock.clone()), egress, clock }
    }

    /// The same, with what an OAuth client remembers of servers.
    pub(super) fn with_dpop(self, dpop: Dpop) -> Self {
        Self { dpop, ..self }
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

    /// Calls a method with the session's access token.
    pub(super) async fn call(&self, session: &StoredSession, call: &Call<'_>) -> Result<Value, SessionError> {
        let client = XrpcClient::new(self.egress.clone(), session.pds.clone());
        match &session.oauth {
            None => Ok(self.call_bearer(&client.with_bearer(&session.access), call).await?),
            Some(grant) => self.call_dpop(&client, &session.access, grant, call).await,
        }
    }

    /// Calls a method with a proof of the key that the token is bound to, and a second time when the proof lacks the
    /// nonce that the PDS wants.
    async fn call_dpop(
        &self,
        client: &XrpcClient,
        access: &str,
        grant: &OAuthGrant,
        call: &Call<'_>,
    ) -> Result<Value, SessionError> {
        let verb = if matches!(call, Call::Query { .. }) { Method::GET } else { Method::POST };
        let method = call.method();
        let mut first = true;
        loop {
            let mut request = client.begin(verb.clone(), method)?.timeout(self.timeout());
            request = match call {
                Call::Query { params, .. } => request.query(params),
                Call::Procedure { input: Value::Null, .. } => request,
                Call::Procedure { input, .. } => request.json(input),
                Call::Upload { content_type, body, .. } => {
                    request.header(http::header::CONTENT_TYPE, *content_type).body(body.clone())
                }
            };
            let url = client.method_url(method);
            let proof = self.dpop.proof(&grant.dpop_key, &verb, &url, Some(access)).await?;
            let request = request.header("DPoP", proof).header("Authorization", format!("DPoP {access}"));
            let response = self.egress.send(request).await.map_err(XrpcError::from)?;
            let (status, is_new) = (response.status(), self.dpop.learn(&url, response.headers()).await);
            let body = self.egress.read(response, MAX_OUTPUT).await.map_err(XrpcError::from)?;
            if status.is_success() {
                return Ok(output(client, method, &body)?);
            }
            let error = client.refusal(method, status, &body);
            if !(first && is_new && error.name() == Some("use_dpop_nonce")) {
                return Err(error.into());
            }
            first = false;
        }
    }

    async fn call_bearer(&self, client: &XrpcClient, call: &Call<'_>) -> Result<Value, XrpcError> {
        match call {
            Call::Query { method, params } => client.query(method, params).await,
            // A body where a method takes none is refused by the reference.
            Call::Procedure { method, input: Value::Null } => {
                self.post(client, method, &Value::Null).await.map_err(|e| e.error)
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
        Ok(output(client, method, &body)?)
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

/// Reads an output; a procedure without one answers with an empty body.
fn output<T: DeserializeOwned>(client: &XrpcClient, method: &str, body: &[u8]) -> Result<T, XrpcError> {
    let body: &[u8] = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|source| XrpcError::Unreadable {
        service: client.service().origin().ascii_serialization(),
        method: method.to_owned(),
        source,
    })
}
