use async_trait::async_trait;
use atcr_core::egress::{Egress, EgressError};
use atcr_core::syntax::Did;
use atcr_core::with_causes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::{LogEntry, Operation, PlcDirectory, PlcError};

/// The longest document or operation that is read: they have a few hundred bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// The longest log that is read. plc.directory takes a hundred operations a week for one DID.
const MAX_LOG: usize = 4 * 1024 * 1024;

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

    async fn get<T: DeserializeOwned>(&self, did: &Did, rest: &[&str], limit: usize) -> Result<T, PlcError> {
        match self.egress.get(self.url(did, rest)?, limit).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                PlcError::Unavailable(format!("{} gave an answer that cannot be read: {error}", self.base))
            }),
            Err(EgressError::Status { status, body, .. }) => Err(refused(did, status, &body)),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// The failure with its causes: this error has no source of its own.
fn unavailable(error: &EgressError) -> PlcError {
    PlcError::Unavailable(with_causes(error))
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
        let url = self.url(did, &[])?;
        let request = self.egress.request(Method::POST, url).map_err(|e| unavailable(&e))?.json(operation);
        let request = request.timeout(self.egress.policy().total_timeout);
        let response = self.egress.send(request).await.map_err(|e| unavailable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = self.egress.read(response, MAX_ANSWER).await.unwrap_or_default();
        Err(refused(did, status, &body))
    }

    async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
        self.get(did, &["log", "audit"], MAX_LOG).await
    }

    async fn last(&self, did: &Did) -> Result<Operation, PlcError> {
        self.get(did, &["log", "last"], MAX_ANSWER).await
    }

    async fn document(&self, did: &Did) -> Result<Value, PlcError> {
        self.get(did, &[], MAX_ANSWER).await
    }
}
