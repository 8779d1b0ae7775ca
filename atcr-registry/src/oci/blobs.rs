//! `/v2/<name>/blobs/<digest>` (distribution specification, Pulling blobs, Deleting Blobs).

use std::sync::Arc;

use atcr_core::blob_store::{BlobContent, ByteStream};
use atcr_core::oci::{ByteRange, Digest, RangeRequest};
use atcr_core::{Access, BlobStore, Principal, Source, StoreError};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
    LOCATION, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use uuid::Uuid;

use super::call::Call;
use super::error::{About, ApiError, ErrorCode};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

fn error(error: StoreError) -> ApiError {
    ApiError::store(About::Blob, error)
}

pub(crate) async fn get(
    call: &Call,
    access: &Access,
    digest: &Digest,
    method: &Method,
) -> Result<Response, ApiError> {
    let blobs = &call.shared.blobs;
    if method == Method::HEAD || matches_etag(call, digest) {
        let info = blobs.stat(access, digest).await.map_err(error)?;
        if matches_etag(call, digest) {
            return Ok(not_modified(digest, &access.principal));
        }
        return Ok(whole(access, digest, info.size, Body::empty()));
    }
    match ranges(call, digest)?.as_deref() {
        None => {
            let content = blobs.open(access, digest, None).await.map_err(error)?;
            Ok(single(access, digest, content, StatusCode::OK))
        }
        Some([range]) => {
            let content = blobs.open(access, digest, Some(*range)).await.map_err(error)?;
            Ok(single(access, digest, content, StatusCode::PARTIAL_CONTENT))
        }
        Some(ranges) => several(call, access, digest, ranges).await,
    }
}

pub(crate) async fn delete(call: &Call, access: &Access, digest: &Digest) -> Result<Response, ApiError> {
    call.shared.blobs.delete(access, digest).await.map_err(error)?;
    Ok(status(StatusCode::ACCEPTED))
}

/// The ranges that are asked for; `None` when all of the blob is.
fn ranges(call: &Call, digest: &Digest) -> Result<Option<Vec<RangeRequest>>, ApiError> {
    let of_this_content = call.header(IF_RANGE).is_none_or(|tag| tag == etag(digest));
    let Some(ranges) = call.header(RANGE).filter(|_| of_this_content).and_then(RangeRequest::parse_header)
    else {
        return Ok(None);
    };
    let limit = call.shared.limits.ranges;
    if ranges.len() > limit {
        let message = format!("{} ranges in one request; ask for at most {limit}", ranges.len());
        return Err(ApiError::bad_request(ErrorCode::SizeInvalid, message));
    }
    Ok(Some(ranges))
}

/// A whole blob or one part of it.
fn single(access: &Access, digest: &Digest, content: BlobContent, status: StatusCode) -> Response {
    match content {
        BlobContent::Redirect(url) => redirect(digest, url.as_str()),
        BlobContent::Stream { size, range, body } => {
            let mut response = whole(access, digest, range.len(), Body::from_stream(body));
            if status == StatusCode::PARTIAL_CONTENT {
                *response.status_mut() = status;
                insert(response.headers_mut(), CONTENT_RANGE, content_range(range, size));
            }
            response
        }
    }
}

/// Several parts of a blob as `multipart/byteranges` (RFC 9110 §14.6), which is how layers are pulled in part.
async fn several(
    call: &Call,
    access: &Access,
    digest: &Digest,
    ranges: &[RangeRequest],
) -> Result<Response, ApiError> {
    let blobs = &call.shared.blobs;
    let size = blobs.stat(access, digest).await.map_err(error)?.size;
    let ranges: Vec<_> = ranges.iter().filter_map(|range| range.resolve(size)).collect();
    let (first, rest) = match &*ranges {
        [] => return Err(error(StoreError::RangeNotSatisfiable { size })),
        [only] => {
            let content = blobs.open(access, digest, Some(exactly(*only))).await.map_err(error)?;
            return Ok(single(access, digest, content, StatusCode::PARTIAL_CONTENT));
        }
        [first, rest @ ..] => (*first, rest.to_vec()),
    };
    // Overlapping ranges could ask for a blob a thousand times over (RFC 9110 §14.2 lets them be ignored).
    if ranges.iter().map(|range| range.len()).fold(0, u64::saturating_add) > size {
        let content = blobs.open(access, digest, None).await.map_err(error)?;
        return Ok(single(access, digest, content, StatusCode::OK));
    }
    let body = match blobs.open(access, digest, Some(exactly(first))).await.map_err(error)? {
        BlobContent::Redirect(url) => return Ok(redirect(digest, url.as_str())),
        BlobContent::Stream { body, .. } => body,
    };

    let boundary = Uuid::new_v4().simple().to_string();
    let head = |range: ByteRange| {
        let content_range = content_range(range, size);
        Bytes::from(format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {content_range}\r\n\r\n"
        ))
    };
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let length =
        ranges.iter().map(|range| head(*range).len() as u64 + range.len()).sum::<u64>() + end.len() as u64;

    let first = once(head(first)).chain(body);
    let rest: Vec<_> = rest.into_iter().map(|range| (range, head(range))).collect();
    let (blobs, access_to, of) = (Arc::clone(blobs), access.clone(), *digest);
    let rest = stream::iter(rest)
        .then(move |(range, head)| {
            let (blobs, access, digest) = (Arc::clone(&blobs), access_to.clone(), of);
            async move { Ok::<_, Source>(once(head).chain(part(&*blobs, &access, &digest, range).await?)) }
        })
        .try_flatten();
    let body = Body::from_stream(first.chain(rest).chain(once(end)));
    let mut response = whole(access, digest, length, body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    insert(response.headers_mut(), CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"));
    Ok(response)
}

fn once(bytes: Bytes) -> ByteStream {
    stream::once(std::future::ready(Ok(bytes))).boxed()
}

async fn part(
    blobs: &dyn BlobStore,
    access: &Access,
    digest: &Digest,
    range: ByteRange,
) -> Result<ByteStream, Source> {
    match blobs.open(access, digest, Some(exactly(range))).await? {
        BlobContent::Stream { body, .. } => Ok(body),
        BlobContent::Redirect(_) => Err("the store began to redirect in the middle of a response".into()),
    }
}

fn exactly(range: ByteRange) -> RangeRequest {
    RangeRequest::FromTo(range.start, range.end - 1)
}

fn content_range(range: ByteRange, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

fn whole(access: &Access, digest: &Digest, length: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, OCTET_STREAM);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    immutable(headers, digest, &access.principal);
    response
}

/// A redirect to where the bytes are. The address is signed for a few minutes: nobody may keep it.
fn redirect(digest: &Digest, url: &str) -> Response {
    let mut response = status(StatusCode::TEMPORARY_REDIRECT);
    let headers = response.headers_mut();
    insert(headers, LOCATION, url);
    content_digest(headers, digest);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The headers of content that its digest names: it can be kept for ever, by everybody if everybody may pull it.
pub(crate) fn immutable(headers: &mut HeaderMap, digest: &Digest, principal: &Principal) {
    let cache = match principal {
        Principal::Anonymous => "public, max-age=31536000, immutable",
        Principal::Account(_) => "private, max-age=31536000, immutable",
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    insert(headers, ETAG, etag(digest));
    content_digest(headers, digest);
}

pub(crate) fn content_digest(headers: &mut HeaderMap, digest: &Digest) {
    insert(headers, "docker-content-digest", digest.to_string());
}

pub(crate) fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client says that it has this content already.
pub(crate) fn matches_etag(call: &Call, digest: &Digest) -> bool {
    call.header(IF_NONE_MATCH).is_some_and(|tags| {
        let mut tags = tags.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
        let etag = etag(digest);
        tags.any(|tag| tag == "*" || tag == etag)
    })
}

pub(crate) fn not_modified(digest: &Digest, principal: &Principal) -> Response {
    let mut response = status(StatusCode::NOT_MODIFIED);
    immutable(response.headers_mut(), digest, principal);
    response
}

pub(crate) fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header to a value made of parts that are checked already, so that it is always one.
pub(crate) fn insert(
    headers: &mut HeaderMap,
    name: impl http::header::IntoHeaderName,
    value: impl AsRef<str>,
) {
    if let Ok(value) = HeaderValue::try_from(value.as_ref()) {
        headers.insert(name, value);
    }
}
