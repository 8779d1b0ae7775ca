//! `/v2/<name>/blobs/uploads/…` (distribution specification, Pushing blobs, Mounting a blob).

use std::sync::Arc;

use atcr_core::blob_store::{BeginUpload, BlobInfo, UploadState};
use atcr_core::oci::{Algorithm, ByteRange, Digest, DigestError, RepositoryName};
use atcr_core::{Access, BlobStore, StoreError};
use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, StatusCode};
use uuid::Uuid;

use super::blobs::{content_digest, insert, status};
use super::body::RequestBody;
use super::call::Call;
use super::error::{About, ApiError, ErrorCode};
use super::session::Session;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

fn error(error: StoreError) -> ApiError {
    ApiError::store(About::Upload, error)
}

fn digest_error(error: DigestError) -> ApiError {
    ApiError::bad_request(ErrorCode::DigestInvalid, error.to_string())
}

/// POST: mounts a blob, takes a whole one, or begins a session.
pub(crate) async fn begin(call: &Call, access: &Access, body: RequestBody) -> Result<Response, ApiError> {
    let digest = |name| call.query(name).map(str::parse).transpose().map_err(digest_error);
    let algorithm: Option<Algorithm> =
        call.query("digest-algorithm").map(str::parse).transpose().map_err(digest_error)?;
    let mut options = BeginUpload { algorithm, ..BeginUpload::default() };
    if let Some(digest) = digest("mount")? {
        if let Some(info) = mount(call, access, &digest).await {
            return Ok(created(access, &info));
        }
        options.digest = Some(digest);
    } else if let Some(digest) = digest("digest")? {
        options.digest = Some(digest);
        options.size = body.length();
        return whole(call, access, options, &digest, body).await;
    }
    let upload = call.shared.blobs.begin(access, options).await.map_err(error)?;
    let session = Session { id: Uuid::new_v4(), upload };
    Ok(in_progress(call, access, &session, StatusCode::ACCEPTED))
}

/// A mount that cannot be done, for whatever reason, is an upload: clients stop at an error here, and an error would
/// say more about the source than the caller may know.
///
/// A source that the caller's credentials do not reach counts as not named: many clients ask for a token of the target
/// alone, and the store may find the blob where the caller can read it all the same.
async fn mount(call: &Call, access: &Access, digest: &Digest) -> Option<BlobInfo> {
    let mut from: Option<RepositoryName> = match call.query("from").filter(|name| !name.is_empty()) {
        None => None,
        Some(name) => Some(name.parse().ok()?),
    };
    if let Some(name) = &from
        && !call.may_pull(name).await
    {
        from = None;
    }
    match call.shared.blobs.mount(access, from.as_ref(), digest).await {
        Ok(mounted) => mounted,
        Err(error) => {
            tracing::warn!(%error, %digest, "a mount failed; the client is asked to upload");
            None
        }
    }
}

/// The whole blob in the body of the POST.
async fn whole(
    call: &Call,
    access: &Access,
    options: BeginUpload,
    digest: &Digest,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let _slot = call.upload_slot(access)?;
    let blobs = &call.shared.blobs;
    let upload = blobs.begin(access, options).await.map_err(error)?;
    let mut unfinished =
        Unfinished { blobs: Arc::clone(blobs), access: access.clone(), upload: Some(upload) };
    if let (false, Some(upload)) = (body.is_empty(), unfinished.upload.clone()) {
        unfinished.upload = Some(blobs.append(access, upload, body.into_stream()).await.map_err(error)?);
    }
    let upload = unfinished.upload.clone().ok_or_else(|| error(StoreError::UploadUnknown))?;
    let info = blobs.finish(access, upload, digest).await.map_err(error)?;
    unfinished.upload = None;
    Ok(created(access, &info))
}

/// An upload that no client has a token for. It is thrown away when the request ends without success, also when the
/// client leaves in the middle.
struct Unfinished {
    blobs: Arc<dyn BlobStore>,
    access: Access,
    upload: Option<UploadState>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (blobs, access) = (Arc::clone(&self.blobs), self.access.clone());
        runtime.spawn(async move {
            if let Err(error) = blobs.abort(&access, upload).await {
                tracing::debug!(%error, "an upload that failed is left to the store's own cleaning");
            }
        });
    }
}

/// PATCH: the next chunk, or all of the blob as a stream.
pub(crate) async fn append(
    call: &Call,
    access: &Access,
    token: &str,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let session = open(call, access, token)?;
    let session = receive(call, access, session, body, Step::Patch).await?;
    Ok(in_progress(call, access, &session, StatusCode::ACCEPTED))
}

/// PUT: the last chunk, if any, and the digest of everything.
pub(crate) async fn finish(
    call: &Call,
    access: &Access,
    token: &str,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let digest = call.query("digest").ok_or_else(|| {
        let message = "the PUT that ends an upload has the blob's digest as its query parameter `digest`";
        ApiError::bad_request(ErrorCode::DigestInvalid, message)
    })?;
    let digest: Digest = digest.parse().map_err(digest_error)?;
    let mut session = open(call, access, token)?;
    if !body.is_empty() {
        session = receive(call, access, session, body, Step::Put).await?;
    }
    let info = call.shared.blobs.finish(access, session.upload, &digest).await.map_err(error)?;
    Ok(created(access, &info))
}

/// GET: how far it is.
pub(crate) async fn progress(call: &Call, access: &Access, token: &str) -> Result<Response, ApiError> {
    let session = open(call, access, token)?;
    call.shared.blobs.status(access, &session.upload).await.map_err(error)?;
    Ok(in_progress(call, access, &session, StatusCode::NO_CONTENT))
}

/// DELETE: throws it away.
pub(crate) async fn cancel(call: &Call, access: &Access, token: &str) -> Result<Response, ApiError> {
    let session = open(call, access, token)?;
    call.shared.blobs.abort(access, session.upload).await.map_err(error)?;
    Ok(status(StatusCode::NO_CONTENT))
}

fn open(call: &Call, access: &Access, token: &str) -> Result<Session, ApiError> {
    call.shared.sessions.open(token, access, call.shared.now()).map_err(error)
}

/// What brings a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Patch,
    Put,
}

/// Adds a body to the upload. When it fails the session stays what it was, and so does the client's token.
async fn receive(
    call: &Call,
    access: &Access,
    session: Session,
    mut body: RequestBody,
    step: Step,
) -> Result<Session, ApiError> {
    let blobs = &call.shared.blobs;
    // Who sends all of a blob in one PATCH streams it, without a length.
    let chunk = step == Step::Patch && (body.length().is_some() || call.header(CONTENT_RANGE).is_some());
    if let Some(value) = call.header(CONTENT_RANGE).filter(|_| !body.is_empty()) {
        let range = ByteRange::parse_content_range(value).ok_or_else(|| {
            let message = format!("Content-Range: {value:?} is not a range such as 0-1023");
            ApiError::bad_request(ErrorCode::BlobUploadInvalid, message)
        })?;
        if range.start != session.upload.offset {
            blobs.status(access, &session.upload).await.map_err(error)?;
            return Err(out_of_order(call, access, &session, range.start));
        }
        if body.length().is_some_and(|length| length != range.len()) {
            let message = "Content-Range and Content-Length do not name the same number of bytes";
            return Err(ApiError::bad_request(ErrorCode::SizeInvalid, message));
        }
        body.expect_length(range.len());
    }
    if body.is_empty() {
        blobs.status(access, &session.upload).await.map_err(error)?;
        return Ok(session);
    }
    let _slot = call.upload_slot(access)?;
    let body = body.into_stream();
    let upload = if chunk {
        blobs.append_chunk(access, session.upload, body).await
    } else {
        blobs.append(access, session.upload, body).await
    };
    Ok(Session { id: session.id, upload: upload.map_err(error)? })
}

fn out_of_order(call: &Call, access: &Access, session: &Session, start: u64) -> ApiError {
    let offset = session.upload.offset;
    let message = format!(
        "the chunk begins at byte {start} but the upload has {offset} bytes; send the chunk that follows"
    );
    let mut headers = HeaderMap::new();
    session_headers(&mut headers, call, access, session);
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid, message);
    let error = error.detail("offset", offset);
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .fold(error, |error, (name, value)| error.header(name, value))
}

/// The answer while an upload goes on.
fn in_progress(call: &Call, access: &Access, session: &Session, code: StatusCode) -> Response {
    let mut response = status(code);
    session_headers(response.headers_mut(), call, access, session);
    response
}

fn session_headers(headers: &mut HeaderMap, call: &Call, access: &Access, session: &Session) {
    let token = call.shared.sessions.seal(session, access, call.shared.now());
    insert(headers, LOCATION, format!("/v2/{}/blobs/uploads/{token}", access.repository));
    // There is no way to write "no bytes yet"; every registry says this.
    insert(headers, RANGE, format!("0-{}", session.upload.offset.saturating_sub(1)));
    insert(headers, UPLOAD_UUID, session.id.to_string());
}

/// The answer when the blob is there.
fn created(access: &Access, info: &BlobInfo) -> Response {
    let mut response = status(StatusCode::CREATED);
    let headers = response.headers_mut();
    insert(headers, LOCATION, format!("/v2/{}/blobs/{}", access.repository, info.digest));
    content_digest(headers, &info.digest);
    response
}
