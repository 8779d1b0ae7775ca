//! `/v2/<name>/referrers/<digest>` (distribution specification, Listing Referrers).

use std::collections::BTreeMap;

use atcr_core::manifest_store::Referrer;
use atcr_core::oci::{Descriptor, Digest, ManifestContent, MediaType, Reference, Tag};
use atcr_core::{Access, StoreError};
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::call::Call;
use super::error::{About, ApiError};
use super::page;

/// A page is a manifest, and clients read manifests up to this size (distribution specification, Pushing Manifests).
const PAGE_BYTES: usize = 4 << 20;
/// How many entries of a fallback tag are looked up at the same time.
const LOOKUPS: usize = 16;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

fn error(error: StoreError) -> ApiError {
    ApiError::store(About::Manifest, error)
}

pub(crate) async fn list(call: &Call, access: &Access, subject: &Digest) -> Result<Response, ApiError> {
    let mut entries = BTreeMap::new();
    for referrer in call.shared.manifests.referrers(access, subject).await.map_err(error)? {
        entries.insert(referrer.digest, descriptor(referrer));
    }
    for entry in fallback(call, access, subject, &entries).await? {
        entries.entry(entry.digest).or_insert(entry);
    }
    // A `+` that a client did not encode arrives as a space, and no media type has one.
    let filter = call.query("artifactType").map(|filter| filter.replace(' ', "+"));
    if let Some(filter) = &filter {
        entries.retain(|_, entry| entry.artifact_type.as_deref().unwrap_or_default() == filter);
    }
    let most = call.shared.limits.referrers_page;
    let limit = page::wanted(call)?.map_or(most, |n| n.min(most));
    let after: Option<Digest> = call.query("last").and_then(|last| last.parse().ok());
    let entries = entries.into_values().filter(|entry| after.is_none_or(|after| entry.digest > after));
    let (manifests, more) = cut(entries, limit);

    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests: &manifests };
    let body = serde_json::to_vec(&index).map_err(|error| ApiError::internal(error.into()))?;
    let link = manifests.last().filter(|_| more).map(|last| {
        let filter =
            filter.as_deref().map(|f| format!("artifactType={}&", page::encode(f))).unwrap_or_default();
        let last = last.digest;
        format!("</v2/{}/referrers/{subject}?{filter}n={limit}&last={last}>; rel=\"next\"", access.repository)
    });
    let mut response = page::json(body, link);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MediaType::OCI_INDEX));
    if filter.is_some() {
        headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn descriptor(referrer: Referrer) -> Descriptor {
    Descriptor {
        media_type: referrer.media_type.as_str().to_owned(),
        digest: referrer.digest,
        size: referrer.size,
        urls: Vec::new(),
        annotations: referrer.annotations,
        artifact_type: referrer.artifact_type,
        platform: None,
    }
}

/// What the client-kept index at the fallback tag adds (distribution specification, Enabling the Referrers API),
/// without what has been deleted since.
async fn fallback(
    call: &Call,
    access: &Access,
    subject: &Digest,
    known: &BTreeMap<Digest, Descriptor>,
) -> Result<Vec<Descriptor>, ApiError> {
    let manifests = &call.shared.manifests;
    let index = match manifests.get(access, &Reference::Tag(fallback_tag(subject)?)).await {
        Ok(manifest) => manifest.content().ok().filter(ManifestContent::is_index),
        Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => None,
        Err(other) => return Err(error(other)),
    };
    let unknown =
        index.into_iter().flat_map(|index| index.manifests).filter(|e| !known.contains_key(&e.digest));
    stream::iter(unknown)
        .map(|entry| async move {
            match manifests.head(access, &entry.digest.into()).await {
                Ok(_) => Ok(Some(entry)),
                Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => Ok(None),
                Err(other) => Err(error(other)),
            }
        })
        .buffered(LOOKUPS)
        .try_filter_map(|entry| std::future::ready(Ok(entry)))
        .try_collect()
        .await
}

/// `<algorithm>-<hex>`, the hex cut to 64 digits (distribution specification, Referrers Tag Schema).
fn fallback_tag(subject: &Digest) -> Result<Tag, ApiError> {
    let hex = subject.hex();
    let tag = format!("{}-{}", subject.algorithm(), &hex[..64]).parse();
    tag.map_err(|error: atcr_core::syntax::SyntaxError| ApiError::internal(error.into()))
}

/// The first entries: at most `limit`, and at most as many as one page has room for, but at least one.
fn cut(entries: impl Iterator<Item = Descriptor>, limit: usize) -> (Vec<Descriptor>, bool) {
    let (mut page, mut size) = (Vec::new(), 0);
    for entry in entries {
        let length = serde_json::to_vec(&entry).map_or(0, |json| json.len() + 1);
        if page.len() >= limit || (!page.is_empty() && size + length > PAGE_BYTES) {
            return (page, limit > 0);
        }
        size += length;
        page.push(entry);
    }
    (page, false)
}
