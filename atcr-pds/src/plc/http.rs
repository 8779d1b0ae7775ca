use async_trait::async_trait;
use atcr_core::egress::{Egress, EgressError};
use atcr_core::syntax::Did;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Operation, PlcDirectory, PlcError};

/// The longest answer that is read: documents and operations have a few hundred bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// A PLC directory somewhere else, such as `https://plc.directory`, reached through the egress gate.
#[derive(Debug, Clone)]
pub struct HttpDirectory {
    egress: Egress,
    base: Url,
}

impl HttpDirectory {
    /// The directory at this URL.
    pub fn new(egress: Egress, base: Url) -> Self {
        Self { egress, base }
    }

    fn url(&self, did: &Did, rest: &[&str]) -> Result<Url, PlcError> {
        let mut url = self.base.clone();
        let no_path = || PlcError::Unavailable(format!("{} cannot be the URL of a directory", self.base));
        url.path_segments_mut().map_err(|()| no_path())?.pop_if_empty().push(did.as_str()).extend(rest);
        Ok(url)
    }

    async fn get(&self, did: &Did, rest: &[&str]) -> Result<Bytes, PlcError> {
        match self.egress.get(self.url(did, rest)?, MAX_ANSWER).await {
            Ok(bytes) => Ok(bytes),
            Err(EgressError::Status { status, body, .. }) => Err(refused(did, status, &body)),
            Err(error) => Err(PlcError::Unavailable(error.to_string())),
        }
    }
}

fn refused(did: &Did, status: StatusCode, body: &[u8]) -> PlcError {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.message).unwrap_or_default();
    match status {
        StatusCode::NOT_FOUND if message.contains("not available") => PlcError::Tombstoned(did.clone()),
        StatusCode::NOT_FOUND | StatusCode::GONE => PlcError::NotRegistered(did.clone()),
        StatusCode::BAD_REQUEST if message.contains("correctly ordered") => PlcError::Misordered,
        StatusCode::BAD_REQUEST if message.contains("Invalid signature") => PlcError::InvalidSignature,
        StatusCode::BAD_REQUEST if !message.is_empty() => PlcError::Improper(message),
        status => PlcError::Unavailable(format!("it answered {status} {message}")),
    }
}

#[async_trait]
impl PlcDirectory for HttpDirectory {
    async fn submit(&self, did: &Did, operation: &Operation) -> Result<(), PlcError> {
        let unavailable = |error: EgressError| PlcError::Unavailable(error.to_string());
        let url = self.url(did, &[])?;
        let request = self.egress.request(Method::POST, url).map_err(unavailable)?.json(operation);
        let response = self
            .egress
            .send(request.timeout(self.egress.policy().total_timeout))
            .await
            .map_err(unavailable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = self.egress.read(response, MAX_ANSWER).await.unwrap_or_default();
        Err(refused(did, status, &body))
    }

    async fn last(&self, did: &Did) -> Result<Operation, PlcError> {
        let bytes = self.get(did, &["log", "last"]).await?;
        serde_json::from_slice(&bytes).map_err(|error| PlcError::Unavailable(error.to_string()))
    }

    async fn document(&self, did: &Did) -> Result<Value, PlcError> {
        let bytes = self.get(did, &[]).await?;
        serde_json::from_slice(&bytes).map_err(|error| PlcError::Unavailable(error.to_string()))
    }
}
