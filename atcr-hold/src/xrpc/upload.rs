use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use atcr_core::methods::{
    AbortUpload, AbortUploadOutput, AbortUploadStatus, Capability, CompleteUpload, CompleteUploadOutput,
    CompleteUploadStatus, GetPartUploadUrl, GetPartUploadUrlOutput, InitiateUpload, InitiateUploadOutput,
    Method as _, PART_NUMBER_HEADER, PartMethod, PartUploadRequest, UPLOAD_ID_HEADER, UploadId, UploadName,
    UploadPart, UploadPartOutput, error_name,
};
use atcr_core::oci::Digest;
use atcr_pds::xrpc::{Params, XrpcError};
use axum::Json;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::input::{call, call_with_digest};
use crate::Hold;
use crate::access::{Action, Use};
use crate::signed_url::{Grant, LIFE};
use crate::storage::{PartNumber, SignedRequest};
use crate::uploads::{Incoming, NewUpload, PartRequests, Verify};

/// Requests of parts that one call gives.
const MOST_PARTS: NonZeroU32 = NonZeroU32::new(100).expect("it is not zero");

pub(super) async fn initiate(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<InitiateUploadOutput>, XrpcError> {
    let (caller, input) = call_with_digest::<InitiateUpload, UploadName>(&hold, request).await?;
    hold.inner.tokens.allow(&caller, Action::Write).await?;
    let algorithm = input.digest.digest().map(|digest| digest.algorithm()).or(input.digest_algorithm);
    let uploads = &hold.inner.uploads;
    let new = NewUpload {
        algorithm,
        size: input.size,
        repository: input.repository,
        digest: input.digest.digest(),
        allowed: hold.inner.roster.allowed(&caller).await?,
    };
    let upload_id = uploads.initiate(&caller, new).await?;
    let able = uploads.storage().capabilities();
    let mut capabilities = vec![Capability::PartsBatch];
    if !able.presign {
        // Every part comes through here.
        capabilities.push(Capability::PartsRecorded);
    }
    if !able.presign || uploads.verification().when == Verify::Sync {
        capabilities.push(Capability::DigestVerified);
    }
    if able.min_part == 0 && able.max_part.is_none() {
        capabilities.push(Capability::PartsAnySize);
    } else {
        capabilities.push(Capability::PartsTail);
    }
    Ok(Json(InitiateUploadOutput {
        upload_id,
        part_size: Some(able.part_size_for(input.size)),
        capabilities: capabilities.into_iter().collect(),
    }))
}

pub(super) async fn part_url(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<GetPartUploadUrlOutput>, XrpcError> {
    let (caller, input) = call::<GetPartUploadUrl>(&hold, request, Use::Repeatable).await?;
    hold.inner.tokens.allow(&caller, Action::Write).await?;
    let uploads = &hold.inner.uploads;
    let first = uploads.check_number(input.part_number.get().into())?;
    let count = input.count.unwrap_or(NonZeroU32::MIN).min(MOST_PARTS);
    let in_pieces = input.more || input.offset.is_some();
    let count = if in_pieces { NonZeroU32::MIN } else { count };
    let piece = in_pieces.then(|| (input.offset.unwrap_or_default(), input.more));
    let parts = PartRequests { first, count, size: input.size, in_pieces };
    let life = Duration::from_secs(LIFE.unsigned_abs());
    let allowed = hold.inner.roster.allowed(&caller).await?;
    let signed = uploads.part_requests(&caller, &input.upload_id, parts, life, allowed).await?;
    let mut requests: Vec<PartUploadRequest> = if let Some(signed) = signed {
        signed.into_iter().map(|(_, request)| of_storage(request)).collect()
    } else {
        let numbers = (first.get()..first.get().saturating_add(count.get())).filter_map(PartNumber::new);
        let numbers = numbers.filter(|number| uploads.check_number(number.get().into()).is_ok());
        numbers.map(|number| of_hold(&hold, &input.upload_id, number, piece)).collect()
    };
    let following = requests.split_off(requests.len().min(1));
    let Some(PartUploadRequest { url, method, headers, etag }) = requests.pop() else {
        return Err(XrpcError::internal("there is no request for a part"));
    };
    Ok(Json(GetPartUploadUrlOutput { url, method, headers, etag, following }))
}

/// A part that goes to the storage.
fn of_storage(signed: SignedRequest) -> PartUploadRequest {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    PartUploadRequest {
        url: signed.url,
        method: if signed.method == Method::POST { PartMethod::Post } else { PartMethod::Put },
        headers: signed.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        etag: signed.etag,
    }
}

/// A part that comes here, or what comes behind so many bytes of it, with more to follow or not.
fn of_hold(
    hold: &Hold,
    upload: &UploadId,
    number: PartNumber,
    piece: Option<(u64, bool)>,
) -> PartUploadRequest {
    let mut url = hold.public_url().clone();
    url.set_path(&format!("/xrpc/{}", UploadPart::NSID));
    url.query_pairs_mut()
        .append_pair("uploadId", upload.as_str())
        .append_pair("partNumber", &number.to_string());
    if let Some((offset, more)) = piece {
        url.query_pairs_mut()
            .append_pair("offset", &offset.to_string())
            .append_pair("more", if more { "true" } else { "false" });
    }
    let grant = Grant::Part(upload, number);
    let url = hold.inner.signer.sign(url, &Method::PUT, grant, hold.inner.clock.unix());
    let headers = [
        (UPLOAD_ID_HEADER.to_owned(), upload.to_string()),
        (PART_NUMBER_HEADER.to_owned(), number.to_string()),
    ];
    PartUploadRequest { url, method: PartMethod::Put, headers: BTreeMap::from(headers), etag: None }
}

/// One part as raw bytes of any length, by a signed address or with the uploader's token.
pub(super) async fn part(State(hold): State<Hold>, request: Request) -> Result<Response, XrpcError> {
    let (mut parts, body) = request.into_parts();
    let params = Params::from_request_parts(&mut parts, &()).await.unwrap_or_else(|never| match never {});
    let uploads = &hold.inner.uploads;
    let bad_number = || {
        let message =
            format!("{PART_NUMBER_HEADER} (or partNumber in a signed address) is not a part number");
        XrpcError::bad(error_name::INVALID_PART_NUMBER, message)
    };
    let signature: Option<String> = params.optional("signature")?;
    let (caller, upload, number) = if let Some(signature) = signature {
        let upload: UploadId = params.required("uploadId")?;
        let number: PartNumber = params.required("partNumber")?;
        let expires: i64 = params.required("expires")?;
        let grant = Grant::Part(&upload, number);
        hold.inner.signer.check(&Method::PUT, grant, expires, &signature, hold.inner.clock.unix())?;
        (None, upload, number)
    } else {
        let caller = hold.inner.tokens.caller(UploadPart::NSID, &parts.headers, Use::Repeatable).await?;
        hold.inner.tokens.allow(&caller, Action::Write).await?;
        let upload: UploadId = header(&parts.headers, UPLOAD_ID_HEADER).ok_or_else(|| {
            XrpcError::bad(error_name::INVALID_UPLOAD_ID, format!("{UPLOAD_ID_HEADER} is not an upload id"))
        })?;
        let number: u64 = header(&parts.headers, PART_NUMBER_HEADER).ok_or_else(bad_number)?;
        (Some(caller), upload, uploads.check_number(number)?)
    };
    let size = axum::body::HttpBody::size_hint(&body).exact();
    let body = Box::pin(body.into_data_stream().map_err(Into::into));
    // Additions of atcr: a part may come in pieces, which are not signed for one by one.
    let offset = params.optional::<u64>("offset")?.unwrap_or_default();
    let incoming = Incoming { number, offset, size };
    let etag = if params.optional::<bool>("more")?.unwrap_or_default() {
        let size = uploads.keep_piece(caller.as_ref(), &upload, incoming, body).await?;
        format!("kept-{size}")
    } else {
        uploads.put_part(caller.as_ref(), &upload, incoming, body).await?.etag
    };
    let header = HeaderValue::try_from(format!("\"{etag}\"")).map_err(XrpcError::internal)?;
    Ok((StatusCode::OK, [(ETAG, header)], Json(UploadPartOutput { etag })).into_response())
}

fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

pub(super) async fn complete(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<CompleteUploadOutput>, XrpcError> {
    let (caller, input) = call_with_digest::<CompleteUpload, Digest>(&hold, request).await?;
    hold.inner.tokens.allow(&caller, Action::Write).await?;
    let parts: Vec<_> =
        input.parts.iter().map(|part| (part.part_number, part.bare_etag().to_owned())).collect();
    hold.inner.repo.refresh_index().await?;
    let allowed = hold.inner.roster.allowed(&caller).await?;
    let uploads = &hold.inner.uploads;
    let blob = uploads.complete(&caller, &input.upload_id, &input.digest, &parts, allowed).await?;
    Ok(Json(CompleteUploadOutput { status: CompleteUploadStatus::Completed, digest: blob.digest }))
}

pub(super) async fn abort(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<AbortUploadOutput>, XrpcError> {
    let (caller, input) = call::<AbortUpload>(&hold, request, Use::Repeatable).await?;
    hold.inner.uploads.abort(&caller, &input.upload_id).await?;
    Ok(Json(AbortUploadOutput { status: AbortUploadStatus::Aborted }))
}
