use std::fmt::Debug;

use async_trait::async_trait;
use atcr_core::egress::{Egress, EgressError};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use url::{Origin, Url};

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// Why a document that a client publishes could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The host cannot be reached, or must not be.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The answer is not 200. Redirects are not followed.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// The answer is not JSON by its own word.
    #[error("{0} is not application/json")]
    ContentType(Url),
}

/// Fetches what clients publish: their metadata and keys. The addresses are chosen by strangers.
#[async_trait]
pub trait ClientDocuments: Debug + Send + Sync + 'static {
    /// The JSON document at this address, which is always https.
    async fn fetch(&self, url: &Url) -> Result<Bytes, DocumentError>;
}

/// Fetches documents through the egress gate; for development, of some origins from elsewhere.
#[derive(Debug, Clone)]
pub struct EgressDocuments {
    egress: Egress,
    origins: Vec<(Origin, Url)>,
}

impl EgressDocuments {
    /// Fetches through this gate.
    pub fn new(egress: Egress) -> Self {
        Self { egress, origins: Vec::new() }
    }

    /// Takes documents of the origin of `from` from `to` instead, so that a client with an https address can be
    /// tried out on loopback.
    #[must_use]
    pub fn with_origin(mut self, from: &Url, to: Url) -> Self {
        self.origins.push((from.origin(), to));
        self
    }

    fn place(&self, url: &Url) -> Url {
        let mapped = self.origins.iter().find(|(from, _)| *from == url.origin());
        let Some((_, to)) = mapped else { return url.clone() };
        let mut place = to.clone();
        place.set_path(url.path());
        place.set_query(url.query());
        place
    }
}

#[async_trait]
impl ClientDocuments for EgressDocuments {
    async fn fetch(&self, url: &Url) -> Result<Bytes, DocumentError> {
        let request = self.egress.request(Method::GET, self.place(url))?;
        let request = request.header(ACCEPT, "application/json").timeout(self.egress.policy().total_timeout);
        let response = self.egress.send(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(DocumentError::Status { url: url.clone(), status });
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(DocumentError::ContentType(url.clone()));
        }
        Ok(self.egress.read(response, MAX_DOCUMENT).await?)
    }
}
