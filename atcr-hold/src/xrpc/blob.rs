use std::time::Duration;

use atcr_core::methods::{DeleteBlob, Nothing, error_name};
use atcr_core::oci::{ByteRange, Digest, RepositoryName};
use atcr_core::syntax::Did;
use atcr_pds::xrpc::{Params, XrpcError};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

use super::input::call_with_digest;
use super::{DOCKER_CONTENT_DIGEST, range};
use crate::Hold;
use crate::access::{Action, Use};
use crate::signed_url::{Grant, LIFE};
use crate::uploads::{Blob, Found, Trust};

/// How long an address of the storage's is good.
const STORE_LIFE: Duration = Duration::from_secs(LIFE.unsigned_abs());

const GET_BLOB: &str = "com.atproto.sync.getBlob";

/// `com.atproto.sync.getBlob`: a blob of an image by its digest, or a file of the hold's own repo by its CID.
pub(super) async fn get_blob(
    State(hold): State<Hold>,
    params: Params,
    request: Request,
) -> Result<Response, XrpcError> {
    let (parts, body) = request.into_parts();
    let cid: String = params.required("cid")?;
    let Ok(digest) = cid.parse::<Digest>() else {
        if cid.contains(':') {
            return Err(XrpcError::invalid_request(format!("{cid:?} is not a sha256 or sha512 digest")));
        }
        let answer = hold.inner.pds.clone().oneshot(Request::from_parts(parts, body)).await;
        return Ok(answer.unwrap_or_else(|never| match never {}));
    };
    let mut reader = may_read(&hold, &params, &parts, &digest).await?;
    // An addition of atcr: as one of the owner's repositories sees it.
    if let Some(repository) = params.optional::<RepositoryName>("repository")?
        && hold.inner.uploads.withdrawn(&digest, &params.required("did")?, &repository).await?
    {
        return Err(missing(&digest));
    }
    let uploads = &hold.inner.uploads;
    let trust = if parts.method == Method::HEAD { Trust::Storage } else { Trust::Database };
    let mut found = uploads.find_for(&digest, reader.caller.as_ref(), trust).await?;
    if found.is_none() && reader.caller.is_none() && uploads.is_disputed(&digest).await? {
        // Only here it matters who asks a public hold.
        let caller = hold.inner.tokens.caller(GET_BLOB, &parts.headers, Use::Repeatable).await;
        reader.caller = caller.ok();
        found = uploads.find_for(&digest, reader.caller.as_ref(), trust).await?;
    }
    if found.is_none() && uploads.is_disputed(&digest).await? {
        // It may be right, and only not verified yet.
        uploads.verify_wanted(&digest).await?;
        found = uploads.find_for(&digest, reader.caller.as_ref(), trust).await?;
    } else if found.is_none() {
        // It may have been verified since the last look.
        found = uploads.find_verified(&digest).await?;
    }
    let found = found.ok_or_else(|| missing(&digest))?;
    match params.optional::<String>("method")? {
        Some(method) => address(&hold, &found, &reader, &method).await,
        None => content(&hold, &found, &reader, &parts).await,
    }
}

/// Who reads a blob.
struct Reader {
    /// Whether anyone may.
    public: bool,
    /// The account, where that is known.
    caller: Option<Did>,
}

/// `io.atcr.hold.deleteBlob`
pub(super) async fn delete(State(hold): State<Hold>, request: Request) -> Result<Json<Nothing>, XrpcError> {
    let (caller, input) = call_with_digest::<DeleteBlob, Digest>(&hold, request).await?;
    hold.inner.tokens.allow(&caller, Action::Write).await?;
    if hold.inner.uploads.withdraw(&input.digest, &caller, &input.repository).await? {
        Ok(Json(Nothing {}))
    } else {
        Err(missing(&input.digest))
    }
}

fn missing(digest: &Digest) -> XrpcError {
    let message = format!("this hold does not have the blob {digest}");
    XrpcError::new(StatusCode::NOT_FOUND, error_name::BLOB_NOT_FOUND, message)
}

fn text(text: String) -> Result<HeaderValue, XrpcError> {
    HeaderValue::try_from(text).map_err(XrpcError::internal)
}

/// Where the bytes can be had with a request of this method, as JSON.
async fn address(hold: &Hold, found: &Found, reader: &Reader, method: &str) -> Result<Response, XrpcError> {
    let method = match method.to_ascii_uppercase().as_str() {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => {
            let message =
                format!("method is GET or HEAD, not {method:?}; to write, begin with initiateUpload");
            return Err(XrpcError::invalid_request(message));
        }
    };
    let url = match hold.inner.uploads.address(found, STORE_LIFE).await? {
        // A store's address is signed for one method.
        Some(url) if method == Method::GET => url,
        _ => own_address(hold, found, reader, &method),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(json!({"url": url}))).into_response())
}

/// The bytes, some of them, or where the storage gives them.
async fn content(
    hold: &Hold,
    found: &Found,
    reader: &Reader,
    request: &Parts,
) -> Result<Response, XrpcError> {
    let Blob { digest, size } = found.blob;
    let etag = text(format!("\"{digest}\""))?;
    let unchanged = request.headers.get_all(IF_NONE_MATCH).iter().any(|known| *known == etag);
    let wanted = range::requested(&request.headers, &etag);
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, etag);
    let cache = match (found.verified, reader.public) {
        (false, _) => "private, no-store",
        (true, true) => "public, max-age=31536000, immutable",
        (true, false) => "private, max-age=31536000, immutable",
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if unchanged {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    // Whoever uploaded it chose the bytes: a browser must neither guess their type nor run them on this origin.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(CONTENT_DISPOSITION, text(format!("attachment; filename=\"{}\"", digest.hex()))?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(DOCKER_CONTENT_DIGEST, text(digest.to_string())?);
    if request.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, size.into());
        return Ok((headers, Body::empty()).into_response());
    }
    if let Some(url) = hold.inner.uploads.address(found, STORE_LIFE).await? {
        let headers = [(LOCATION, text(url.into())?), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        return Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response());
    }
    let mut status = StatusCode::OK;
    let mut range = ByteRange { start: 0, end: size };
    if let Some(wanted) = wanted {
        let Some(resolved) = wanted.resolve(size) else {
            let message = format!("the range lies outside the blob, which has {size} bytes");
            let error = XrpcError::new(StatusCode::RANGE_NOT_SATISFIABLE, "RangeNotSatisfiable", message);
            return Err(error.with_header(CONTENT_RANGE, text(format!("bytes */{size}"))?));
        };
        range = resolved;
        status = StatusCode::PARTIAL_CONTENT;
        headers.insert(CONTENT_RANGE, text(format!("bytes {}-{}/{size}", range.start, range.end - 1))?);
    }
    headers.insert(CONTENT_LENGTH, range.len().into());
    let body = hold.inner.uploads.read(found, range).await?;
    Ok((status, headers, Body::from_stream(body)).into_response())
}

/// Refuses who may not read the blob.
///
/// On a public hold nothing that the request shows is looked at: clients of registries send the registry's token
/// along when they are redirected to a hold on the same host.
async fn may_read(
    hold: &Hold,
    params: &Params,
    request: &Parts,
    digest: &Digest,
) -> Result<Reader, XrpcError> {
    let public = hold.inner.roster.public().await?;
    let uploader: Option<Did> = params.optional("uploader")?;
    if public && uploader.is_none() {
        return Ok(Reader { public, caller: None });
    }
    if let Some(signature) = params.optional::<String>("signature")? {
        let expires: i64 = params.required("expires")?;
        let (signer, now) = (&hold.inner.signer, hold.inner.clock.unix());
        let grant = match &uploader {
            Some(uploader) => Grant::OwnBlob(digest, uploader),
            None => Grant::Blob(digest),
        };
        let mut checked = signer.check(&request.method, grant, expires, &signature, now);
        if request.method == Method::HEAD && checked.is_err() {
            // Who may read the bytes may know how many there are.
            checked = signer.check(&Method::GET, grant, expires, &signature, now);
        }
        checked?;
        return Ok(Reader { public, caller: uploader });
    }
    let caller = hold.inner.tokens.caller(GET_BLOB, &request.headers, Use::Repeatable).await?;
    hold.inner.tokens.allow(&caller, Action::Read).await?;
    Ok(Reader { public, caller: Some(caller) })
}

fn own_address(hold: &Hold, found: &Found, reader: &Reader, method: &Method) -> url::Url {
    let digest = &found.blob.digest;
    let mut url = hold.public_url().clone();
    url.set_path(&format!("/xrpc/{GET_BLOB}"));
    url.query_pairs_mut().append_pair("did", hold.did().as_str()).append_pair("cid", &digest.to_string());
    let grant = match &reader.caller {
        Some(uploader) if !found.verified => {
            url.query_pairs_mut().append_pair("uploader", uploader.as_str());
            Grant::OwnBlob(digest, uploader)
        }
        _ => Grant::Blob(digest),
    };
    hold.inner.signer.sign(url, method, grant, hold.inner.clock.unix())
}
