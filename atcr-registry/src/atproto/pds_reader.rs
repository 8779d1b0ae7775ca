use atcr_core::StoreError;
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::egress::Egress;
use atcr_core::syntax::{AtUri, Did, Nsid, RecordKey};
use atcr_core::xrpc::{XrpcClient, XrpcError};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::names::identity_error;

/// A walk over a collection ends after this many pages of 100 records: a bound for a hostile PDS, far above any account.
const MAX_PAGES: usize = 1_000;

/// Reads the records and blobs of any account, at its own PDS, as anybody can.
#[derive(Debug, Clone)]
pub(super) struct PdsReader {
    egress: Egress,
    identities: IdentityResolver,
}

/// A record with where it was found.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Found<T> {
    /// Its address.
    pub(super) uri: AtUri,
    /// Its CID; absent from an answer only where a PDS is broken.
    pub(super) cid: Option<String>,
    /// Its content.
    pub(super) value: T,
}

impl PdsReader {
    pub(super) fn new(egress: Egress, identities: IdentityResolver) -> Self {
        Self { egress, identities }
    }

    async fn client(&self, did: &Did) -> Result<XrpcClient, StoreError> {
        let pds = self.identities.pds(did).await.map_err(identity_error)?;
        Ok(XrpcClient::new(self.egress.clone(), pds))
    }

    /// The record under a key, if there is one and it can be read as `T`.
    pub(super) async fn record<T: DeserializeOwned>(
        &self,
        did: &Did,
        collection: &Nsid,
        rkey: &RecordKey,
    ) -> Result<Option<Found<T>>, StoreError> {
        let params = [("repo", did.as_str()), ("collection", collection.as_str()), ("rkey", rkey.as_str())];
        let client = self.client(did).await?;
        match client.query::<Found<serde_json::Value>>("com.atproto.repo.getRecord", &params).await {
            Ok(found) => Ok(readable(found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(pds_error(did, error)),
        }
    }

    /// The records of a collection for which `keep` gives something. Records that cannot be read as `T` are passed over.
    pub(super) async fn scan<T: DeserializeOwned, R>(
        &self,
        did: &Did,
        collection: &Nsid,
        mut keep: impl FnMut(Found<T>) -> Option<R>,
    ) -> Result<Vec<R>, StoreError> {
        #[derive(Deserialize)]
        struct Output {
            records: Vec<Found<serde_json::Value>>,
            cursor: Option<String>,
        }
        let client = self.client(did).await?;
        let mut kept = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut params =
                vec![("repo", did.as_str()), ("collection", collection.as_str()), ("limit", "100")];
            if let Some(cursor) = &cursor {
                params.push(("cursor", cursor));
            }
            let page: Output = match client.query("com.atproto.repo.listRecords", &params).await {
                Ok(page) => page,
                Err(error) if is_absent(&error) => return Ok(kept),
                Err(error) => return Err(pds_error(did, error)),
            };
            if page.records.is_empty() {
                break;
            }
            kept.extend(page.records.into_iter().filter_map(readable).filter_map(&mut keep));
            // A cursor that does not move would never end.
            if page.cursor.is_none() || page.cursor == cursor {
                break;
            }
            cursor = page.cursor;
        }
        Ok(kept)
    }

    /// A blob's bytes, at most `limit` of them.
    pub(super) async fn blob(&self, did: &Did, cid: &str, limit: usize) -> Result<Bytes, StoreError> {
        const METHOD: &str = "com.atproto.sync.getBlob";
        let client = self.client(did).await?;
        let request = client.begin(reqwest::Method::GET, METHOD).map_err(|e| pds_error(did, e))?;
        let request = request.query(&[("did", did.as_str()), ("cid", cid)]);
        let read = async {
            let mut response = self.egress.send(request).await?;
            // Big PDSs answer with a redirect to where they keep blobs.
            if response.status().is_redirection() {
                let url = response.headers().get(http::header::LOCATION).and_then(|l| l.to_str().ok());
                if let Some(url) = url.and_then(|location| response.url().join(location).ok()) {
                    response = self.egress.follow(reqwest::Method::GET, url, http::HeaderMap::new()).await?;
                }
            }
            let status = response.status();
            let body = self.egress.read(response, limit).await?;
            if status.is_success() { Ok(body) } else { Err(client.refusal(METHOD, status, &body)) }
        };
        read.await.map_err(|error| pds_error(did, error))
    }

    /// The newest commit of the account's repo, for a compare-and-swap.
    pub(super) async fn latest_commit(&self, did: &Did) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Output {
            cid: String,
        }
        let client = self.client(did).await?;
        let output: Result<Output, _> =
            client.query("com.atproto.sync.getLatestCommit", &[("did", did.as_str())]).await;
        output.map(|o| o.cid).map_err(|e| pds_error(did, e))
    }
}

fn readable<T: DeserializeOwned>(found: Found<serde_json::Value>) -> Option<Found<T>> {
    let Found { uri, cid, value } = found;
    match serde_json::from_value(value) {
        Ok(value) => Some(Found { uri, cid, value }),
        Err(error) => {
            tracing::debug!(%uri, %error, "a record that is not what its collection says");
            None
        }
    }
}

/// The ways in which a PDS says that something is not there: RecordNotFound is a 400 at the reference, and a repo that is
/// gone is `InvalidRequest: Could not locate record`.
fn is_absent(error: &XrpcError) -> bool {
    let (Some(status), Some(name)) = (error.status(), error.name()) else { return false };
    match name {
        "RecordNotFound" | "RepoNotFound" | "NotFound" => true,
        "InvalidRequest" => {
            let XrpcError::Refused { message, .. } = error else { return false };
            status.as_u16() == 400 && (message.contains("Could not") || message.contains("not found"))
        }
        _ => status.as_u16() == 404,
    }
}

/// What a PDS's refusal means for a request.
pub(super) fn pds_error(did: &Did, error: XrpcError) -> StoreError {
    if error.status().is_some_and(|status| status.as_u16() == 429) {
        let message = format!("the PDS of {did} limits requests; wait a few minutes and try again");
        return StoreError::RateLimited { message, retry_after: None };
    }
    StoreError::unavailable(format!("the PDS of {did}"), error)
}
