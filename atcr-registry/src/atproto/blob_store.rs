use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::blob_store::{BeginUpload, BlobContent, BlobInfo, BlobStore, ByteStream, UploadState};
use atcr_core::did_resolver::IdentityResolver;
use atcr_core::methods::{
    AbortUpload, AbortUploadInput, Capability, CompleteUpload, CompleteUploadInput, CompletedPart,
    DeleteBlob, DeleteBlobInput, GetPartUploadUrl, GetPartUploadUrlInput, InitiateUpload,
    InitiateUploadInput, InitiateUploadOutput, Nothing, error_name,
};
use atcr_core::oci::{Algorithm, ByteRange, Digest, RangeRequest, RepositoryName};
use atcr_core::syntax::Did;
use atcr_core::{Access, Principal, StoreError};
use futures_util::TryStreamExt;
use http::header;
use moka::future::Cache;
use reqwest::Response;
use url::Url;
use uuid::Uuid;

use super::hold_client::{BlobOf, BlobRequest, HoldClient, hold_error, redirect_target};
use super::hold_locator::HoldLocator;
use super::hold_upload::{Begun, HoldKind, HoldUpload};
use super::names::{self, OwnedRepository};
use super::part_upload::{self, Step};

/// Parts begin at this size where the hold does not say, and have at least it.
const PART_SIZE: u64 = 8 * 1024 * 1024;

/// A hold that did not answer is asked after all others for so long.
const ASKED_LAST: Duration = Duration::from_secs(30);

/// How a client gets a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlobDelivery {
    /// It is sent to the storage, which is what holds are for.
    #[default]
    Redirect,
    /// Through the registry, for clients or networks that cannot reach the storage.
    Proxy,
}

/// A [`BlobStore`] whose blobs are in the holds that the owners of the repositories have chosen.
///
/// Uploads go to the hold of the owner's profile, or the registry's default; reads go to the hold that the manifest
/// names. Bytes are passed on as they come: memory does not depend on their number.
#[derive(Debug, Clone)]
pub struct HoldBlobStore {
    identities: IdentityResolver,
    holds: HoldClient,
    locator: HoldLocator,
    delivery: BlobDelivery,
    /// The names that clients reach the registry by.
    names: Vec<String>,
    /// Holds that did not answer.
    down: Cache<Did, ()>,
}

impl HoldBlobStore {
    pub(super) fn new(
        identities: IdentityResolver,
        holds: HoldClient,
        locator: HoldLocator,
        delivery: BlobDelivery,
        registry: Url,
    ) -> Self {
        let names = registry.host_str().map(str::to_owned).into_iter().collect();
        let down = Cache::builder().max_capacity(10_000).time_to_live(ASKED_LAST).build();
        Self { identities, holds, locator, delivery, names, down }
    }

    /// The same for a registry that has these host names as well.
    #[must_use]
    pub fn also_called(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.names.extend(hosts);
        self
    }

    /// The same blobs, whose bytes come through here and never by a redirect.
    #[must_use]
    pub fn proxied(&self) -> Self {
        Self { delivery: BlobDelivery::Proxy, ..self.clone() }
    }

    /// Asks the holds in turn until one has the blob, the slow way at last. A hold that is down is not the end, but is
    /// what is reported when no other has the blob.
    async fn find(
        &self,
        access: &Access,
        digest: &Digest,
        request: BlobRequest<'_>,
    ) -> Result<Response, StoreError> {
        let owned = names::resolve(&self.identities, &access.repository).await?;
        let mut asked = Vec::new();
        let mut failure = None;
        let mut missing = format!("the blob {digest}");
        for slow in [false, true] {
            let candidates = if slow {
                self.locator.search(&owned.owner, digest).await?
            } else {
                self.locator.candidates(&owned.owner, digest).await?
            };
            // One that did not answer a moment ago is asked after those of which nothing bad is known.
            let (down, up): (Vec<Did>, Vec<Did>) =
                candidates.into_iter().partition(|hold| self.down.contains_key(hold));
            for hold in up.into_iter().chain(down) {
                if asked.contains(&hold) {
                    continue;
                }
                let blob = BlobOf { repository: &owned, digest };
                match self.holds.blob(&hold, blob, &access.principal, request).await {
                    Ok(response) => return Ok(response),
                    // A hold that locked it away says why.
                    Err(StoreError::NotFound(said)) if said.len() > missing.len() => missing = said,
                    Err(StoreError::NotFound(_)) => {}
                    Err(error @ StoreError::RangeNotSatisfiable { .. }) => return Err(error),
                    Err(error) => {
                        if matches!(error, StoreError::Unavailable { .. }) {
                            self.down.insert(hold.clone(), ()).await;
                        }
                        failure = Some(error);
                    }
                }
                asked.push(hold);
            }
        }
        Err(failure.unwrap_or(StoreError::NotFound(missing)))
    }
}

/// Only people with a name upload; the authorizer has seen to it that it is the owner.
fn caller(access: &Access) -> Result<&Did, StoreError> {
    match &access.principal {
        Principal::Account(account) => Ok(&account.did),
        Principal::Anonymous => {
            Err(StoreError::Unauthenticated("sign in to push: docker login <this registry>".to_owned()))
        }
    }
}

fn kind_of(output: &InitiateUploadOutput, size: Option<u64>) -> HoldKind {
    let can = |capability| output.capabilities.contains(&capability);
    if can(Capability::PartsAnySize) && can(Capability::PartsRecorded) && can(Capability::DigestVerified) {
        return HoldKind::Streaming;
    }
    // 10,000 parts must do; where the size is not known, room is left for 80 GB.
    let fitting = size.map_or(PART_SIZE, |size| size.div_ceil(9_000).max(PART_SIZE));
    let part = output.part_size.unwrap_or(fitting).clamp(PART_SIZE, 512 * 1024 * 1024);
    HoldKind::Parts(u32::try_from(part).unwrap_or(u32::MAX))
}

#[async_trait]
impl BlobStore for HoldBlobStore {
    async fn stat(&self, access: &Access, digest: &Digest) -> Result<BlobInfo, StoreError> {
        let response = self.find(access, digest, BlobRequest::Head).await?;
        let size = content_length(&response)
            .ok_or_else(|| StoreError::unavailable("the hold", "it did not tell the size of a blob"))?;
        Ok(BlobInfo { digest: *digest, size })
    }

    async fn open(
        &self,
        access: &Access,
        digest: &Digest,
        range: Option<RangeRequest>,
    ) -> Result<BlobContent, StoreError> {
        if self.delivery == BlobDelivery::Redirect {
            if let Some(url) = self.at_open_hold(access, digest).await? {
                return Ok(BlobContent::Redirect(url));
            }
            let response = self.find(access, digest, BlobRequest::Locate).await?;
            let of_hold = response.url().origin();
            if let Some(url) = self.location(response).await?
                && (url.origin() == of_hold || !takes_the_token_along(&self.names, &url))
            {
                return Ok(BlobContent::Redirect(url));
            }
        }
        let header = range.map(range_header);
        let response = self.find(access, digest, BlobRequest::Read(header.as_deref())).await?;
        let length = content_length(&response)
            .ok_or_else(|| StoreError::unavailable("the hold", "it did not tell the size of a blob"))?;
        let (range, size) = match content_range(&response) {
            Some(partial) if response.status() == http::StatusCode::PARTIAL_CONTENT => partial,
            _ => (ByteRange { start: 0, end: length }, length),
        };
        Ok(BlobContent::Stream { size, range, body: Box::pin(response.bytes_stream().map_err(Into::into)) })
    }

    async fn begin(&self, access: &Access, options: BeginUpload) -> Result<UploadState, StoreError> {
        let caller = caller(access)?;
        let repository = names::resolve(&self.identities, &access.repository).await?.name;
        let hold = self.locator.push_hold(caller).await?;
        let algorithm =
            options.digest.map(|d| d.algorithm()).or(options.algorithm).unwrap_or(Algorithm::Sha256);
        // A digest that is too long for a name goes to the hold with the end of the upload.
        let announced = options.digest.and_then(|digest| digest.to_string().parse().ok());
        let unannounced = || format!("uploads/temp-{}", Uuid::new_v4()).parse().map_err(StoreError::internal);
        let input = InitiateUploadInput {
            digest: announced.map_or_else(unannounced, Ok)?,
            size: options.size,
            digest_algorithm: Some(algorithm),
            repository: Some(repository),
        };
        let output = self.holds.call::<InitiateUpload>(&hold, caller, &input).await?;
        let kind = kind_of(&output, options.size);
        let can = |capability| output.capabilities.contains(&capability);
        let (batch, tails) = (can(Capability::PartsBatch), can(Capability::PartsTail));
        let begun = Begun { kind, batch, tails, size: options.size };
        HoldUpload::new(hold, output.upload_id, begun, algorithm).write(0)
    }

    async fn append(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        self.add(access, upload, body, false).await
    }

    async fn append_chunk(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
    ) -> Result<UploadState, StoreError> {
        self.add(access, upload, body, true).await
    }

    async fn status(&self, access: &Access, upload: &UploadState) -> Result<(), StoreError> {
        let session = HoldUpload::read(upload)?;
        let part_number = NonZeroU32::MIN.saturating_add(session.parts);
        // Asking where the next part goes changes nothing, and fails when there is no such upload.
        let upload_id = session.upload_id;
        let input = GetPartUploadUrlInput {
            upload_id,
            part_number,
            size: None,
            count: None,
            offset: None,
            more: false,
        };
        self.holds.call::<GetPartUploadUrl>(&session.hold, caller(access)?, &input).await?;
        Ok(())
    }

    async fn finish(
        &self,
        access: &Access,
        upload: UploadState,
        digest: &Digest,
    ) -> Result<BlobInfo, StoreError> {
        let mut session = HoldUpload::read(&upload)?;
        let caller = caller(access)?;
        if let Some(hasher) = session.hasher()? {
            if hasher.algorithm() != digest.algorithm() {
                return Err(StoreError::Unsupported(format!(
                    "this hold cannot check a {} digest that was not announced; begin the upload with ?digest-algorithm={}",
                    digest.algorithm(),
                    digest.algorithm()
                )));
            }
            let actual = hasher.finish();
            if actual != *digest {
                self.abort(access, upload).await.ok();
                return Err(StoreError::DigestMismatch {
                    expected: Box::new(*digest),
                    actual: Some(Box::new(actual)),
                });
            }
        }
        part_upload::end_tail(&self.holds, caller, &mut session).await?;
        let parts = (0..).zip(session.etags);
        let input = CompleteUploadInput {
            upload_id: session.upload_id,
            digest: *digest,
            parts: parts
                .map(|(before, etag)| CompletedPart {
                    part_number: NonZeroU32::MIN.saturating_add(before),
                    etag,
                })
                .collect(),
        };
        match self.holds.try_call::<CompleteUpload>(&session.hold, caller, &input).await? {
            Ok(_) => Ok(BlobInfo { digest: *digest, size: upload.offset }),
            Err(refused) if refused.name() == Some("InvalidDigest") => {
                Err(StoreError::DigestMismatch { expected: Box::new(*digest), actual: None })
            }
            Err(refused) => Err(hold_error(&session.hold, refused)),
        }
    }

    async fn abort(&self, access: &Access, upload: UploadState) -> Result<(), StoreError> {
        let session = HoldUpload::read(&upload)?;
        let input = AbortUploadInput { upload_id: session.upload_id };
        self.holds.call::<AbortUpload>(&session.hold, caller(access)?, &input).await?;
        Ok(())
    }

    /// A hold keeps a blob once for everybody who may read it, so mounting is finding it at the hold that the next
    /// upload would go to.
    async fn mount(
        &self,
        access: &Access,
        _from: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError> {
        let hold = self.locator.push_hold(caller(access)?).await?;
        let repository = names::resolve(&self.identities, &access.repository).await?;
        let blob = BlobOf { repository: &repository, digest };
        let head = self.holds.blob(&hold, blob, &access.principal, BlobRequest::Head).await;
        let Ok(response) = head else { return Ok(None) };
        Ok(content_length(&response).map(|size| BlobInfo { digest: *digest, size }))
    }

    /// Every hold that may have it deletes it from the repository. Content that other repositories have too stays
    /// theirs.
    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let caller = caller(access)?;
        let OwnedRepository { owner, name } = names::resolve(&self.identities, &access.repository).await?;
        let input = DeleteBlobInput { digest: *digest, repository: name };
        let mut deleted = false;
        for hold in self.locator.candidates(&owner, digest).await? {
            match self.holds.try_call::<DeleteBlob>(&hold, caller, &input).await? {
                Ok(Nothing {}) => deleted = true,
                Err(refused) if refused.name() == Some(error_name::BLOB_NOT_FOUND) => {}
                Err(refused) if matches!(refused.status().map(|s| s.as_u16()), Some(404 | 405 | 501)) => {
                    return Err(StoreError::Unsupported(format!(
                        "the hold {hold} does not delete blobs one by one; it removes those that no manifest names"
                    )));
                }
                Err(refused) => return Err(hold_error(&hold, refused)),
            }
        }
        if deleted { Ok(()) } else { Err(StoreError::NotFound(format!("the blob {digest}"))) }
    }
}

impl HoldBlobStore {
    /// The blob's address at a hold that sends anybody on to its storage by itself, when it is known without asking.
    async fn at_open_hold(&self, access: &Access, digest: &Digest) -> Result<Option<Url>, StoreError> {
        let owned = names::resolve(&self.identities, &access.repository).await?;
        let Some((hold, url)) = self.locator.open_hold(&owned.owner, digest).await else { return Ok(None) };
        let url = self.holds.blob_url(&url, BlobOf { repository: &owned, digest });
        tracing::debug!(%hold, %digest, "sent on to the hold");
        Ok(if takes_the_token_along(&self.names, &url) { None } else { Some(url) })
    }

    async fn add(
        &self,
        access: &Access,
        upload: UploadState,
        body: ByteStream,
        chunk: bool,
    ) -> Result<UploadState, StoreError> {
        let mut session = HoldUpload::read(&upload)?;
        let step = Step { offset: upload.offset, chunk };
        let sent = part_upload::send(&self.holds, caller(access)?, &mut session, step, body).await?;
        session.write(upload.offset + sent)
    }

    /// The URL in a hold's answer: a redirect, or JSON with a `url`. `None` when it sent the bytes themselves.
    async fn location(&self, response: Response) -> Result<Option<Url>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Located {
            url: Url,
        }
        if response.status().is_redirection() {
            return Ok(redirect_target(&response));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let json = content_type.is_some_and(|v| v.starts_with("application/json"));
        if !json || content_length(&response).is_some_and(|length| length > 16 * 1024) {
            return Ok(None);
        }
        let body = self.holds.egress().read(response, 16 * 1024).await;
        let located = body.ok().and_then(|body| serde_json::from_slice::<Located>(&body).ok());
        Ok(located.map(|located| located.url).filter(|url| matches!(url.scheme(), "http" | "https")))
    }
}

/// Whether clients that are redirected from the registry to a URL send the registry's token there: those in Go do,
/// when its host is the registry's or a subdomain of it (moby#50065). Storages that see a token beside the signature in
/// the URL refuse both; a hold knows better.
fn takes_the_token_along(registry: &[String], target: &Url) -> bool {
    let Some(target) = target.host_str() else { return false };
    let below = |name: &String| target.strip_suffix(name.as_str());
    registry.iter().filter_map(below).any(|before| before.is_empty() || before.ends_with('.'))
}

fn range_header(range: RangeRequest) -> String {
    match range {
        RangeRequest::From(start) => format!("bytes={start}-"),
        RangeRequest::FromTo(start, end) => format!("bytes={start}-{end}"),
        RangeRequest::Last(n) => format!("bytes=-{n}"),
    }
}

fn content_length(response: &Response) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Content-Range: bytes a-b/size`
fn content_range(response: &Response) -> Option<(ByteRange, u64)> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let range = ByteRange { start: start.parse().ok()?, end: last.parse::<u64>().ok()?.checked_add(1)? };
    Some((range, size.parse().ok()?)).filter(|(range, size)| range.start < range.end && range.end <= *size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_along_to_subdomains_only() {
        let along = |target: &str| {
            let names = ["registry.example".to_owned(), "other.example".to_owned()];
            takes_the_token_along(&names, &target.parse().unwrap())
        };
        assert!(along("https://registry.example:9000/bucket/x"));
        assert!(along("https://s3.other.example/x") && !along("https://s3.another.example/x"));
        assert!(along("https://s3.registry.example/x") && along("https://a.b.REGISTRY.example/x"));
        assert!(!along("https://s3.example/x") && !along("https://notregistry.example/x"));
        assert!(!along("https://example/x") && !along("https://registry.example.org/x"));
    }
}
