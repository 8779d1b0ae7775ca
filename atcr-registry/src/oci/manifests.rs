//! `/v2/<name>/manifests/<reference>` (distribution specification, Pulling manifests, Pushing Manifests, Deleting).

use std::collections::BTreeSet;
use std::fmt::Display;

use atcr_core::manifest_store::ManifestInfo;
use atcr_core::oci::{Digest, Manifest, ManifestContent, MediaType, Reference, Tag};
use atcr_core::{AUDIT, Access, Source, StoreError};
use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tracing::field::display;

use super::blobs::{content_digest, immutable, insert, matches_etag, not_modified, status};
use super::body::RequestBody;
use super::call::Call;
use super::error::{About, ApiError, ErrorCode};

/// How many lookups one push makes at the same time.
const LOOKUPS: usize = 16;
/// A header line of tags has some of them, so that none is longer than what proxies let through.
const TAGS_PER_HEADER: usize = 16;

fn error(error: StoreError) -> ApiError {
    ApiError::store(About::Manifest, error)
}

pub(crate) async fn get(
    call: &Call,
    access: &Access,
    reference: &Reference,
    method: &Method,
) -> Result<Response, ApiError> {
    let manifests = &call.shared.manifests;
    let (info, body) = if method == Method::HEAD {
        (manifests.head(access, reference).await.map_err(error)?, Body::empty())
    } else {
        let Manifest { digest, media_type, bytes } = manifests.get(access, reference).await.map_err(error)?;
        (ManifestInfo { digest, size: bytes.len() as u64, media_type }, Body::from(bytes))
    };
    let mut response = if matches_etag(call, &info.digest) {
        not_modified(&info.digest, &access.principal)
    } else {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        insert(headers, CONTENT_TYPE, info.media_type.as_str());
        headers.insert(CONTENT_LENGTH, info.size.into());
        immutable(headers, &info.digest, &access.principal);
        response
    };
    if matches!(reference, Reference::Tag(_)) {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    Ok(response)
}

pub(crate) async fn put(
    call: &Call,
    access: &Access,
    reference: &Reference,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let extra = tag_parameters(call)?;
    let bytes = body.collect(call.shared.limits.manifest_size).await;
    let bytes = bytes.map_err(|error| ApiError::body(About::Manifest, &Source::from(error)))?;
    let (digest, tags) = match reference {
        Reference::Tag(tag) => (Digest::sha256(&bytes), [tag].into_iter().chain(&extra).cloned().collect()),
        Reference::Digest(expected) => {
            let actual = Digest::of(expected.algorithm(), &bytes);
            if actual != *expected {
                let (expected, actual) = (Box::new(*expected), Some(Box::new(actual)));
                return Err(error(StoreError::DigestMismatch { expected, actual }));
            }
            (actual, extra.clone())
        }
    };
    let manifest = Manifest { digest, media_type: media_type(call, &bytes)?, bytes };
    let content = check(&manifest)?;
    let missing = missing(call, access, &content).await?;
    if !missing.is_empty() {
        return Err(error(StoreError::Missing(missing)));
    }
    let tags: Vec<Tag> = tags.into_iter().collect();
    call.shared.manifests.put(access, manifest, &tags).await.map_err(error)?;
    audit("manifest_written", access, &digest, tags.iter().map(Tag::as_str));

    let mut response = status(StatusCode::CREATED);
    let headers = response.headers_mut();
    insert(headers, LOCATION, format!("/v2/{}/manifests/{digest}", access.repository));
    content_digest(headers, &digest);
    if let Some(subject) = &content.subject {
        insert(headers, "oci-subject", subject.digest.to_string());
    }
    let extra: Vec<&str> = extra.iter().map(Tag::as_str).collect();
    for some in extra.chunks(TAGS_PER_HEADER) {
        headers.extend(HeaderValue::try_from(some.join(", ")).ok().map(|value| (OCI_TAG, value)));
    }
    Ok(response)
}

const OCI_TAG: http::HeaderName = http::HeaderName::from_static("oci-tag");

pub(crate) async fn delete(
    call: &Call,
    access: &Access,
    reference: &Reference,
) -> Result<Response, ApiError> {
    let manifests = &call.shared.manifests;
    match reference {
        Reference::Tag(tag) => manifests.delete_tag(access, tag).await,
        Reference::Digest(digest) => manifests.delete(access, digest).await,
    }
    .map_err(error)?;
    audit("manifest_deleted", access, reference, []);
    Ok(status(StatusCode::ACCEPTED))
}

/// Notes in the audit log who changed what.
pub(crate) fn audit<'a>(
    event: &str,
    access: &Access,
    reference: &dyn Display,
    tags: impl IntoIterator<Item = &'a str>,
) {
    let tags = tags.into_iter().collect::<Vec<_>>().join(",");
    let (did, repository) = (access.principal.did().map(display), display(&access.repository));
    tracing::info!(target: AUDIT, event, did, repository, %reference, tags);
}

/// The tags that the `tag` parameters name.
fn tag_parameters(call: &Call) -> Result<BTreeSet<Tag>, ApiError> {
    let limit = call.shared.limits.tags_per_manifest;
    if call.queries("tag").nth(limit).is_some() {
        let message =
            format!("more than {limit} tags in one request; push the manifest again with the others");
        return Err(ApiError::new(StatusCode::URI_TOO_LONG, ErrorCode::Unsupported, message));
    }
    let tag = |text: &str| text.parse().map_err(|e| manifest_invalid(&e));
    call.queries("tag").map(tag).collect()
}

fn manifest_invalid(reason: &impl ToString) -> ApiError {
    ApiError::bad_request(ErrorCode::ManifestInvalid, reason.to_string())
}

/// What the manifest is pushed as: the `Content-Type`, or what it says of itself when there is none.
fn media_type(call: &Call, bytes: &[u8]) -> Result<MediaType, ApiError> {
    #[derive(Deserialize)]
    struct Own {
        #[serde(rename = "mediaType")]
        media_type: Option<MediaType>,
    }
    if let Some(value) = call.header(CONTENT_TYPE) {
        return MediaType::from_content_type(value).map_err(|e| manifest_invalid(&e));
    }
    let own: Own = serde_json::from_slice(bytes).map_err(|e| manifest_invalid(&e))?;
    own.media_type.ok_or_else(|| {
        manifest_invalid(&"it is not said what the manifest is: send its media type as Content-Type")
    })
}

/// The manifest's content, when it is one that clients will not read in two ways.
fn check(manifest: &Manifest) -> Result<ManifestContent, ApiError> {
    if manifest.media_type.as_str().starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(manifest_invalid(
            &"manifests of Docker schema 1 are not accepted; push with a newer client",
        ));
    }
    let content = manifest.content().map_err(|e| manifest_invalid(&e))?;
    // CVE-2021-41190: a document that is an image to one client and an index to another.
    if !content.manifests.is_empty() && (content.config.is_some() || !content.layers.is_empty()) {
        return Err(manifest_invalid(&"the manifest is an image and an index at the same time"));
    }
    Ok(content)
}

/// What the manifest names and the repository must have, but has not. Children of an index are looked up, not
/// looked into: they were checked when they were pushed.
async fn missing(call: &Call, access: &Access, content: &ManifestContent) -> Result<Vec<Digest>, ApiError> {
    let shared = &call.shared;
    let blobs = content.required_blobs().filter(|_| !shared.sparse.images).map(|blob| (blob.digest, false));
    let children =
        content.manifests.iter().filter(|_| !shared.sparse.indexes).map(|child| (child.digest, true));
    let required: BTreeSet<(Digest, bool)> = blobs.chain(children).collect();
    stream::iter(required)
        .map(|(digest, is_manifest)| async move {
            let found = if is_manifest {
                shared.manifests.head(access, &digest.into()).await.map(|_| ())
            } else {
                shared.blobs.stat(access, &digest).await.map(|_| ())
            };
            match found {
                Ok(()) => Ok(None),
                Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => Ok(Some(digest)),
                Err(other) => Err(error(other)),
            }
        })
        .buffered(LOOKUPS)
        .try_filter_map(|missing| std::future::ready(Ok(missing)))
        .try_collect()
        .await
}
