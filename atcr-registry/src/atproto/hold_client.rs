use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atcr_auth::pds_session::{PdsSessions, SessionError};
use atcr_core::did_resolver::{DidResolver, ResolveError};
use atcr_core::egress::{Egress, EgressError};
use atcr_core::methods::{Method, MethodKind};
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use atcr_core::{Principal, StoreError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use moka::future::Cache;
use reqwest::Response;
use url::Url;

use super::names::OwnedRepository;

/// Calls the methods of holds in the name of the registry's callers.
#[derive(Clone)]
pub(super) struct HoldClient {
    egress: Egress,
    dids: Arc<dyn DidResolver>,
    sessions: Arc<dyn PdsSessions>,
    /// Holds that answered an anonymous read: no token is asked for there. Forgotten after a while, since a hold can
    /// be made private.
    public: Cache<Did, ()>,
}

impl fmt::Debug for HoldClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldClient").finish_non_exhaustive()
    }
}

const GET_BLOB: &str = "com.atproto.sync.getBlob";

impl HoldClient {
    pub(super) fn new(egress: Egress, dids: Arc<dyn DidResolver>, sessions: Arc<dyn PdsSessions>) -> Self {
        let public = Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build();
        Self { egress, dids, sessions, public }
    }

    /// The gate that parts and blobs go through too.
    pub(super) fn egress(&self) -> &Egress {
        &self.egress
    }

    async fn client(&self, hold: &Did) -> Result<XrpcClient, StoreError> {
        let document = self.dids.resolve(hold).await.map_err(|e| unresolved(hold, e))?;
        let url = document.service("atcr_hold").or_else(|_| document.pds());
        let url = url.map_err(|e| StoreError::unavailable(format!("the hold {hold}"), e))?;
        Ok(XrpcClient::new(self.egress.clone(), url))
    }

    /// Calls one of the hold's methods with a service token of the caller.
    pub(super) async fn call<M: Method>(
        &self,
        hold: &Did,
        caller: &Did,
        input: &M::Input,
    ) -> Result<M::Output, StoreError>
    where
        M::Input: Sync,
    {
        self.try_call::<M>(hold, caller, input).await?.map_err(|error| hold_error(hold, error))
    }

    /// As [`HoldClient::call`], for callers to whom it matters what the hold says.
    pub(super) async fn try_call<M: Method>(
        &self,
        hold: &Did,
        caller: &Did,
        input: &M::Input,
    ) -> Result<Result<M::Output, XrpcError>, StoreError>
    where
        M::Input: Sync,
    {
        debug_assert!(matches!(M::KIND, MethodKind::Procedure));
        let client = self.client(hold).await?;
        let token = self.token(hold, caller, M::NSID).await?;
        Ok(client.with_bearer(token).procedure(M::NSID, input).await)
    }

    async fn token(&self, hold: &Did, caller: &Did, method: &str) -> Result<String, StoreError> {
        self.sessions.service_token(caller, hold, method).await.map_err(session_error)
    }

    /// Asks for a blob: with HEAD what is known of it, with GET where it is (or, at some holds, the bytes at once).
    ///
    /// A public hold needs no token; a private one is asked again with one when the caller is somebody. So is a hold
    /// that does not have a blob of the caller's own: one that it has not verified yet it has for its uploader alone.
    pub(super) async fn blob(
        &self,
        hold: &Did,
        blob: BlobOf<'_>,
        principal: &Principal,
        verb: BlobRequest<'_>,
    ) -> Result<Response, StoreError> {
        let client = self.client(hold).await?;
        let anonymous = self.request_blob(hold, &client, blob, verb).await;
        let Some(caller) = principal.did() else { return anonymous };
        let token = match &anonymous {
            Err(StoreError::Unauthenticated(_) | StoreError::Denied(_))
                if !self.public.contains_key(hold) =>
            {
                self.token(hold, caller, GET_BLOB).await?
            }
            Err(StoreError::NotFound(_)) if *caller == blob.repository.owner => {
                match self.token(hold, caller, GET_BLOB).await {
                    Ok(token) => token,
                    // It is not there, as far as can be known.
                    Err(_) => return anonymous,
                }
            }
            Err(_) => return anonymous,
            Ok(_) => {
                self.public.insert(hold.clone(), ()).await;
                return anonymous;
            }
        };
        self.request_blob(hold, &client.with_bearer(token), blob, verb).await
    }

    /// Where anybody can ask a hold for a blob.
    pub(super) fn blob_url(&self, hold: &Url, blob: BlobOf<'_>) -> Url {
        let mut url = XrpcClient::new(self.egress.clone(), hold.clone()).method_url(GET_BLOB);
        let BlobOf { repository: OwnedRepository { owner, name }, digest } = blob;
        url.query_pairs_mut()
            .append_pair("did", owner.as_str())
            .append_pair("cid", &digest.to_string())
            .append_pair("repository", name.as_str());
        url
    }

    async fn request_blob(
        &self,
        hold: &Did,
        client: &XrpcClient,
        blob: BlobOf<'_>,
        verb: BlobRequest<'_>,
    ) -> Result<Response, StoreError> {
        let BlobOf { repository: OwnedRepository { owner, name }, digest } = blob;
        let digest_text = digest.to_string();
        let params = [("did", owner.as_str()), ("cid", &digest_text), ("repository", name.as_str())];
        let method = if matches!(verb, BlobRequest::Head) { http::Method::HEAD } else { http::Method::GET };
        let mut request =
            client.begin(method.clone(), GET_BLOB).map_err(|e| hold_error(hold, e))?.query(&params);
        match verb {
            BlobRequest::Head | BlobRequest::Read(None) => {}
            BlobRequest::Locate => request = request.query(&[("method", "GET")]),
            BlobRequest::Read(Some(range)) => request = request.header(header::RANGE, range),
        }
        let failed = |e: EgressError| StoreError::unavailable(format!("the hold {hold}"), e);
        let mut response = self.egress.send(request).await.map_err(failed)?;
        // Where the blob is asked for itself, a redirect to the storage is followed; its signature carries the right.
        if response.status().is_redirection() && !matches!(verb, BlobRequest::Locate) {
            let url = redirect_target(&response).ok_or_else(|| {
                StoreError::unavailable(format!("the hold {hold}"), "a redirect to nowhere")
            })?;
            let mut headers = HeaderMap::new();
            if let BlobRequest::Read(Some(range)) = verb {
                headers.insert(header::RANGE, HeaderValue::from_str(range).map_err(StoreError::internal)?);
            }
            response = self.egress.follow(method, url, headers).await.map_err(failed)?;
        }
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        match status.as_u16() {
            404 => return Err(StoreError::NotFound(format!("the blob {digest}"))),
            // An answer to HEAD has no body that could name the error; this one is what a PDS says of a blob that it
            // does not have.
            400 if matches!(verb, BlobRequest::Head) => {
                return Err(StoreError::NotFound(format!("the blob {digest}")));
            }
            416 => {
                let size = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
                let size = size.and_then(|v| v.rsplit_once('/')).and_then(|(_, size)| size.parse().ok());
                return Err(StoreError::RangeNotSatisfiable { size: size.unwrap_or_default() });
            }
            _ => {}
        }
        let body = self.egress.read(response, 64 * 1024).await.map_err(failed)?;
        let refusal = client.refusal(GET_BLOB, status, &body);
        if status == StatusCode::GONE {
            // What the caller uploaded was not what they said; a client that hears this uploads it again.
            let why = refusal.message().map(|message| format!(" ({message})")).unwrap_or_default();
            return Err(StoreError::NotFound(format!("the blob {digest}{why}")));
        }
        // The way of a PDS to say that a blob is not there.
        if matches!(refusal.name(), Some("BlobNotFound" | "NotFound")) {
            return Err(StoreError::NotFound(format!("the blob {digest}")));
        }
        Err(hold_error(hold, refusal))
    }
}

/// A blob as a repository has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlobOf<'a> {
    pub(super) repository: &'a OwnedRepository,
    pub(super) digest: &'a Digest,
}

/// What is wanted of a blob.
#[derive(Debug, Clone, Copy)]
pub(super) enum BlobRequest<'a> {
    /// Whether it is there, and its size.
    Head,
    /// A URL that the client can be sent to.
    Locate,
    /// Its bytes; with the value of a `Range` header.
    Read(Option<&'a str>),
}

/// Where a redirect leads.
pub(super) fn redirect_target(response: &Response) -> Option<Url> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

fn unresolved(hold: &Did, error: ResolveError) -> StoreError {
    StoreError::unavailable(format!("the hold {hold}"), error)
}

/// What a hold's refusal means for a request.
pub(super) fn hold_error(hold: &Did, error: XrpcError) -> StoreError {
    let XrpcError::Refused { status, error: ref name, ref message, .. } = error else {
        return StoreError::unavailable(format!("the hold {hold}"), error);
    };
    let said = format!("the hold {hold} says: {}", if message.is_empty() { name } else { message });
    match (name.as_str(), status.as_u16()) {
        ("InvalidUploadId" | "UploadNotFound", _) => StoreError::UploadUnknown,
        ("QuotaExceeded", _) => StoreError::QuotaExceeded(said),
        (_, 507) => StoreError::StorageFull,
        (_, 401) => StoreError::Unauthenticated(said),
        (_, 403) => StoreError::Denied(said),
        (_, 404) => StoreError::NotFound(said),
        (_, 429) => StoreError::RateLimited { message: said, retry_after: None },
        (_, 500..) => StoreError::unavailable(format!("the hold {hold}"), error),
        _ => StoreError::Invalid(said),
    }
}

/// What it means for a request that the caller's session at their PDS cannot be used.
pub(super) fn session_error(error: SessionError) -> StoreError {
    let status = error.xrpc().and_then(XrpcError::status);
    match error {
        SessionError::NoSession(_) => StoreError::Unauthenticated(error.to_string()),
        SessionError::Resolve(error) => super::names::identity_error(error),
        error => match status {
            Some(status) if status.as_u16() == 429 => {
                let message = "your PDS limits requests; wait a few minutes and try again".to_owned();
                StoreError::RateLimited { message, retry_after: None }
            }
            Some(status) if status.is_client_error() => {
                StoreError::Denied(format!("your PDS refused: {error}"))
            }
            _ => StoreError::unavailable("your PDS", error),
        },
    }
}
