//! Requests to the blob service, each by a signed URL of its own.

use std::time::Duration;

use atcr_core::with_causes;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use reqwest::{Body, Response};
use serde::de::DeserializeOwned;
use url::Url;

use super::super::{ObjectKey, StorageError};
use super::AzureStorage;
use super::sas::{self, Right};

/// How long the hold's own URLs are good: so far may its clock be behind Azure's.
const OWN_LIFE: Duration = Duration::from_secs(3600);
/// How often a request is made before it has failed.
const ATTEMPTS: u32 = 3;
/// How long to wait before the first repetition.
const PAUSE: Duration = Duration::from_millis(100);
/// The greatest answer that is read into memory: a block list of 50,000 blocks is smaller.
const MAX_ANSWER: usize = 16 << 20;

/// What the storage refused or why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum AzureFailure {
    /// It answered with an error.
    #[error("Azure answered {status} {code}: {message}")]
    Refused { status: u16, code: String, message: String },
    /// No answer came, or one that is none.
    #[error("{0}")]
    Unreached(String),
}

impl AzureFailure {
    /// Whether the blob that the request named is not there. That its container is not is another matter.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, code, .. } if code == "BlobNotFound")
    }

    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Refused { status, .. } => *status,
            Self::Unreached(_) => 0,
        }
    }

    pub(super) fn doing(self, doing: impl Into<String>) -> StorageError {
        StorageError::Failed { doing: doing.into(), source: self.into() }
    }

    /// Trying again may help.
    fn passes(&self) -> bool {
        matches!(self.status(), 0 | 408 | 429 | 500..=599)
    }
}

impl From<reqwest::Error> for AzureFailure {
    fn from(error: reqwest::Error) -> Self {
        // The URL is a secret.
        Self::Unreached(with_causes(&error.without_url()))
    }
}

impl AzureStorage {
    /// The URL of an object, unsigned.
    fn place(&self, name: &str) -> Url {
        let mut url = self.inner.root.clone();
        let root = url.path().trim_end_matches('/');
        let container = &self.inner.config.container;
        let slash = if name.is_empty() { "" } else { "/" };
        let path = format!("{root}/{container}{slash}{name}");
        url.set_path(&path);
        url
    }

    /// The URL of an object for the hold itself.
    pub(super) fn own_url(&self, key: &ObjectKey, right: Right) -> Url {
        self.url(key, right, OWN_LIFE, Duration::ZERO)
    }

    pub(super) fn url(&self, key: &ObjectKey, right: Right, life: Duration, window: Duration) -> Url {
        let config = &self.inner.config;
        let name = self.prefixed(key.as_str());
        sas::sign(config, self.place(&name), &name, right, sas::expiry(config, life, window))
    }

    /// The URL of the container, for a listing.
    pub(super) fn container_url(&self) -> Url {
        let config = &self.inner.config;
        let expiry = sas::expiry(config, OWN_LIFE, Duration::ZERO);
        let mut url = sas::sign(config, self.place(""), "", Right::List, expiry);
        url.query_pairs_mut().append_pair("restype", "container").append_pair("comp", "list");
        url
    }

    /// Sends a request, again if need be. The body of the answer is still to be read.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Response, AzureFailure> {
        let body = body.into();
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.once(method.clone(), url, headers, body.clone()).await {
                Err(failure) if failure.passes() => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause *= 4;
        }
        self.once(method, url, headers, body).await
    }

    async fn once(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response, AzureFailure> {
        let mut request = self.inner.client.request(method.clone(), url.clone()).headers(headers.clone());
        if method == Method::PUT {
            // Of nothing the client would not say that it has a length, and the storage wants to know.
            request = request.header(CONTENT_LENGTH, body.len());
        }
        let answer = tokio::time::timeout(self.inner.config.timeout, request.body(body).send()).await;
        let answer = answer.map_err(|_| AzureFailure::Unreached("the storage does not answer".to_owned()))?;
        refused(answer?).await
    }

    /// Sends a body of a known size, once, however long that takes.
    pub(super) async fn pour(&self, url: &Url, size: u64, body: Body) -> Result<Response, AzureFailure> {
        let request = self.inner.client.put(url.clone()).header(CONTENT_LENGTH, size);
        refused(request.body(body).send().await?).await
    }

    /// Reads an answer of XML.
    pub(super) async fn xml<T: DeserializeOwned>(&self, mut answer: Response) -> Result<T, AzureFailure> {
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if text.len() + piece.len() > MAX_ANSWER {
                return Err(AzureFailure::Unreached("the answer is too large".to_owned()));
            }
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_start_matches('\u{feff}');
        quick_xml::de::from_str(text)
            .map_err(|error| AzureFailure::Unreached(format!("the answer cannot be read: {error}")))
    }
}

/// An error in the answer.
async fn refused(mut answer: Response) -> Result<Response, AzureFailure> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let code = answer.headers().get("x-ms-error-code").and_then(|code| code.to_str().ok());
    let code = code.unwrap_or_default().to_owned();
    let mut message = Vec::new();
    while message.len() < 2048
        && let Ok(Some(piece)) = answer.chunk().await
    {
        message.extend_from_slice(&piece);
    }
    let message = String::from_utf8_lossy(&message).chars().filter(|c| !c.is_control()).take(500).collect();
    Err(AzureFailure::Refused { status: answer.status().as_u16(), code, message })
}
