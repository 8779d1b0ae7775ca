//! Calling XRPC methods of services that somebody else runs (specification, HTTP API).

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::egress::{Egress, EgressError};

/// No answer of a method called here is larger; listRecords with 100 records of 1 MB is bounded by this too.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why a method did not give its output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XrpcError {
    /// The service refused: an XRPC error with its name.
    #[error("{service} refused {method}: {error}: {message} ({status})")]
    Refused {
        /// The origin of the service.
        service: String,
        /// The NSID of the method.
        method: String,
        /// The HTTP status.
        status: StatusCode,
        /// The name of the error; empty when the answer was not an XRPC error.
        error: String,
        /// What the service says about it.
        message: String,
    },
    /// The answer is not what the method promises.
    #[error("{service} gave an answer to {method} that cannot be read")]
    Unreadable {
        /// The origin of the service.
        service: String,
        /// The NSID of the method.
        method: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The service could not be reached.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl XrpcError {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The name of the error of a refusal.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }

    /// What the service says to people in a refusal; `None` when it says nothing.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Refused { message, .. } if !message.is_empty() => Some(message),
            _ => None,
        }
    }

    /// Whether trying again later may help: the service is out of reach, overloaded or broken.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_server_error() || status.as_u16() == 429,
            Self::Unreadable { .. } => true,
            Self::Egress(error) => !matches!(error, EgressError::Forbidden { .. }),
        }
    }
}

/// A service's methods, called through the egress gate. Cheap to clone.
#[derive(Debug, Clone)]
pub struct XrpcClient {
    egress: Egress,
    service: Url,
    bearer: Option<String>,
}

impl XrpcClient {
    /// The service at this URL, called by nobody in particular.
    pub fn new(egress: Egress, service: Url) -> Self {
        Self { egress, service, bearer: None }
    }

    /// The same service, called with this token.
    #[must_use]
    pub fn with_bearer(&self, token: impl Into<String>) -> Self {
        Self { bearer: Some(token.into()), ..self.clone() }
    }

    /// The service's URL.
    pub fn service(&self) -> &Url {
        &self.service
    }

    /// Calls a query.
    pub async fn query<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, XrpcError> {
        let request = self.begin(Method::GET, method)?.query(params);
        self.call(method, request).await
    }

    /// Calls a procedure with a JSON input.
    pub async fn procedure<T: DeserializeOwned>(
        &self,
        method: &str,
        input: &impl Serialize,
    ) -> Result<T, XrpcError> {
        let request = self.begin(Method::POST, method)?.json(input);
        self.call(method, request).await
    }

    /// Calls a procedure whose input is bytes, such as `com.atproto.repo.uploadBlob`.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        method: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, XrpcError> {
        let request = self.begin(Method::POST, method)?;
        self.call(method, request.header(http::header::CONTENT_TYPE, content_type).body(body)).await
    }

    /// Begins a request to a method, with the token; for answers that are not JSON.
    pub fn begin(&self, verb: Method, method: &str) -> Result<RequestBuilder, XrpcError> {
        let request = self.egress.request(verb, self.method_url(method))?;
        Ok(match &self.bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Where a method is.
    pub fn method_url(&self, method: &str) -> Url {
        let mut url = self.service.clone();
        url.set_path(&format!("{}/xrpc/{method}", url.path().trim_end_matches('/')));
        url
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, request: RequestBuilder) -> Result<T, XrpcError> {
        let request = request.timeout(self.egress.policy().total_timeout);
        let response = self.egress.send(request).await?;
        let status = response.status();
        let body = self.egress.read(response, MAX_ANSWER).await?;
        if !status.is_success() {
            return Err(self.refusal(method, status, &body));
        }
        // A procedure without output answers with an empty body.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|source| XrpcError::Unreadable {
            service: self.origin(),
            method: method.to_owned(),
            source,
        })
    }

    /// Reads the error that a service answered with.
    pub fn refusal(&self, method: &str, status: StatusCode, body: &[u8]) -> XrpcError {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Body {
            error: String,
            message: String,
        }
        let Body { error, message } = serde_json::from_slice(body).unwrap_or_default();
        let cut = |text: String| text.chars().take(512).collect();
        XrpcError::Refused {
            service: self.origin(),
            method: method.to_owned(),
            status,
            error: cut(error),
            message: cut(message),
        }
    }

    fn origin(&self) -> String {
        self.service.origin().ascii_serialization()
    }
}
