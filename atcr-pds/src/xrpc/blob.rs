use atcr_core::syntax::{Did, Tid};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use ipld_core::cid::Cid;
use serde_json::{Value, json};

use super::input::content_type;
use super::server::authenticated;
use super::{Params, Server, XrpcError};
use crate::cbor;

pub(super) async fn upload_blob(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Value>, XrpcError> {
    let (caller, request) = authenticated(&server, request).await?;
    let headers = request.headers();
    let mime_type = content_type(headers)?.to_owned();
    let gzip = gzip(headers)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if !gzip && announced.is_some_and(|length| length > server.0.blobs.limit()) {
        return Err(XrpcError::too_large("PayloadTooLarge"));
    }
    let did = caller.may_upload(&mime_type)?;
    let body = request.into_body().into_data_stream();
    let blob = server.0.blobs.upload(&server.0.repos, &did, &mime_type, gzip, body).await?;
    Ok(Json(json!({"blob": cbor::json::to_json(&blob.to_ipld())})))
}

fn gzip(headers: &HeaderMap) -> Result<bool, XrpcError> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => Err(XrpcError::invalid_request("unsupported content-encoding: only gzip is read")),
    }
}

pub(super) async fn get_blob(State(server): State<Server>, params: Params) -> Result<Response, XrpcError> {
    let did: Did = params.required("did")?;
    let cid: Cid = params.required("cid")?;
    server.served(&did).await?;
    let missing = || XrpcError::invalid_request("Blob not found");
    let row = server.0.repos.blob(&did, &cid).await?.filter(|row| row.referenced).ok_or_else(missing)?;
    let Some(content) = server.0.blobs.open(&did, &cid).await? else {
        tracing::error!(%did, %cid, "a record refers to a blob whose bytes are gone");
        return Err(missing());
    };
    let text = |text: String| HeaderValue::try_from(text).map_err(XrpcError::internal);
    let mut headers = HeaderMap::new();
    // The type was chosen by whoever uploaded it: a browser must neither guess nor run it on this origin.
    let kind = HeaderValue::try_from(row.blob.mime_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, content.size.into());
    headers.insert(CONTENT_DISPOSITION, text(format!("attachment; filename=\"{cid}\""))?);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    Ok((headers, Body::from_stream(content.bytes)).into_response())
}

pub(super) async fn list_blobs(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let did: Did = params.required("did")?;
    let since: Option<Tid> = params.optional("since")?;
    let limit = params.integer("limit", 1..=1000, 500)?;
    let cursor: Option<Cid> = params.optional("cursor")?;
    server.served(&did).await?;
    let cids = server.0.repos.list_blobs(&did, since, cursor.as_ref(), limit).await?;
    let cids: Vec<String> = cids.iter().map(Cid::to_string).collect();
    let mut answer = json!({"cids": cids});
    if let Some(last) = cids.last() {
        answer["cursor"] = json!(last);
    }
    Ok(Json(answer))
}
