use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::oci::ByteRange;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::Response;
use serde::Deserialize;

use super::super::bucket::{Counter, DISTRIBUTION, UPLOADED, UploadName};
use super::super::{Layout, Measured, ObjectKey, StorageError, Usage};
use super::AzureStorage;
use super::client::AzureFailure;
use super::sas::Right;

/// How long a copy may take. Within an account it is a matter of names, whatever the size.
const COPY: Duration = Duration::from_secs(600);
/// How often the storage is asked whether a copy is done.
const POLL: Duration = Duration::from_millis(250);

const COPY_STATUS: HeaderName = HeaderName::from_static("x-ms-copy-status");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
const SOURCE_IF_MATCH: HeaderName = HeaderName::from_static("x-ms-source-if-match");
pub(super) const CONTENT_TYPE_OF_BLOB: HeaderName = HeaderName::from_static("x-ms-blob-content-type");
pub(super) const CACHE_CONTROL_OF_BLOB: HeaderName = HeaderName::from_static("x-ms-blob-cache-control");

/// What a HEAD tells.
enum Found {
    Nothing,
    Whole(u64),
    /// A copy that goes on.
    Copying,
    /// A copy that has failed.
    Broken(String),
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    blobs: Blobs,
    #[serde(default)]
    next_marker: String,
}

#[derive(Debug, Default, Deserialize)]
struct Blobs {
    #[serde(rename = "Blob", default)]
    blob: Vec<Listed>,
}

/// A blob in a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) name: String,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Content-Length", default)]
    length: u64,
    #[serde(rename = "Last-Modified", default)]
    modified: String,
}

impl Listed {
    /// When it was written.
    pub(super) fn modified(&self) -> Option<jiff::Timestamp> {
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&self.properties.modified).ok()
    }
}

impl AzureStorage {
    async fn head(&self, key: &ObjectKey) -> Result<Found, StorageError> {
        let url = self.own_url(key, Right::Read);
        match self.send(Method::HEAD, &url, &HeaderMap::new(), "").await {
            Ok(head) => match header(&head, &COPY_STATUS) {
                Some("pending") => Ok(Found::Copying),
                Some(status @ ("failed" | "aborted")) => Ok(Found::Broken(status.to_owned())),
                _ => Ok(Found::Whole(length(&head))),
            },
            Err(failure) if failure.is_missing() => Ok(Found::Nothing),
            Err(failure) => Err(failure.doing(format!("looking for {key}"))),
        }
    }

    /// The size of an object that is whole.
    pub(super) async fn size_of(&self, key: &ObjectKey) -> Result<Option<u64>, StorageError> {
        match self.head(key).await? {
            Found::Whole(size) => Ok(Some(size)),
            _ => Ok(None),
        }
    }

    /// Copies within the container, `from` as it is under this ETag where one is named, and waits until that is done.
    /// Where `create` is set, what stands at `to` already stays.
    pub(super) async fn copy(
        &self,
        from: &ObjectKey,
        etag: Option<&HeaderValue>,
        to: &ObjectKey,
        create: bool,
    ) -> Result<Option<u64>, StorageError> {
        let doing = || format!("copying to {to}");
        let source = self.own_url(from, Right::Read);
        let source = HeaderValue::try_from(source.as_str()).expect("a URL is ASCII");
        let mut headers = HeaderMap::from_iter([(COPY_SOURCE, source)]);
        headers.extend(etag.map(|etag| (SOURCE_IF_MATCH, etag.clone())));
        if create {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let url = self.own_url(to, Right::Write);
        match self.send(Method::PUT, &url, &headers, "").await {
            Ok(_) => {}
            // It is there or on its way, or another completion has joined the parts anew and goes on.
            Err(failure) if create && matches!(failure.status(), 409 | 412) => {}
            Err(failure) => return Err(failure.doing(doing())),
        }
        let done = async {
            loop {
                match self.head(to).await? {
                    Found::Whole(size) => return Ok(Some(size)),
                    Found::Nothing => return Ok(None),
                    Found::Copying => tokio::time::sleep(POLL).await,
                    Found::Broken(status) => {
                        self.remove_object(to).await?;
                        let source = format!("the copy has {status}").into();
                        return Err(StorageError::Failed { doing: doing(), source });
                    }
                }
            }
        };
        let late = |_| AzureFailure::Unreached("the copy does not come to its end".into()).doing(doing());
        tokio::time::timeout(COPY, done).await.map_err(late)?
    }

    pub(super) async fn keep(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<ObjectKey, StorageError> {
        if from == wanted {
            return Ok(wanted.clone());
        }
        let name = UploadName::of_key(from.as_str());
        let kept = if let (Layout::Uploaded, Some(name)) = (self.inner.config.layout, &name) {
            self.put_object(&name.location(), wanted.to_string()).await?;
            from.clone()
        } else {
            self.shift(from, wanted).await?;
            wanted.clone()
        };
        if let Some(name) = &name {
            self.forget(name).await?;
        }
        Ok(kept)
    }

    /// Copies an object and removes the original.
    async fn shift(&self, from: &ObjectKey, wanted: &ObjectKey) -> Result<(), StorageError> {
        let Some(size) = self.size_of(from).await? else {
            let there = self.size_of(wanted).await?.is_some();
            return if there { Ok(()) } else { Err(StorageError::ObjectUnknown(from.clone())) };
        };
        let copied = self.copy(from, None, wanted, false).await?;
        if copied != Some(size) {
            return Err(StorageError::Failed {
                doing: format!("copying to {wanted}"),
                source: format!("the storage made {copied:?} of {size} bytes").into(),
            });
        }
        self.remove_object(from).await
    }

    /// Puts a small object.
    pub(super) async fn put_object(
        &self,
        key: &ObjectKey,
        content: impl Into<String>,
    ) -> Result<(), StorageError> {
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-ms-blob-type"), HeaderValue::from_static("BlockBlob")),
            (CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ]);
        let url = self.own_url(key, Right::Write);
        let put = self.send(Method::PUT, &url, &headers, content.into()).await;
        put.map(drop).map_err(|failure| failure.doing(format!("writing {key}")))
    }

    pub(super) async fn stream(&self, key: &ObjectKey, range: ByteRange) -> Result<ByteStream, StorageError> {
        let unknown = || StorageError::ObjectUnknown(key.clone());
        if range.is_empty() {
            self.size_of(key).await?.ok_or_else(unknown)?;
            return Ok(stream::empty().boxed());
        }
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::try_from(bytes).expect("digits"))]);
        let url = self.own_url(key, Right::Read);
        let object = match self.send(Method::GET, &url, &headers, "").await {
            Ok(object) => object,
            Err(failure) if failure.is_missing() => return Err(unknown()),
            Err(failure) => return Err(failure.doing(format!("reading {key}"))),
        };
        if length(&object) != range.len() {
            return Err(StorageError::Failed {
                doing: format!("reading {key}"),
                source: "the storage did not answer the range that was asked for".into(),
            });
        }
        let pieces = object.bytes_stream().map_err(|error| Source::from(error.without_url()));
        Ok(Measured::new(Some(range.len()), pieces.boxed()).boxed())
    }

    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.remove_object(key).await?;
        match UploadName::of_key(key.as_str()) {
            Some(name) => self.remove_object(&name.location()).await,
            None => Ok(()),
        }
    }

    pub(super) async fn remove_object(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let url = self.own_url(key, Right::Delete);
        match self.send(Method::DELETE, &url, &HeaderMap::new(), "").await {
            Err(failure) if !failure.is_missing() => Err(failure.doing(format!("removing {key}"))),
            _ => Ok(()),
        }
    }

    /// Calls `each` with every blob whose name begins so, in order of names.
    pub(super) async fn list(
        &self,
        prefix: &str,
        mut each: impl FnMut(&str, &Listed),
    ) -> Result<(), StorageError> {
        let mut marker = String::new();
        loop {
            let mut url = self.container_url();
            url.query_pairs_mut().append_pair("prefix", &self.prefixed(prefix));
            if !marker.is_empty() {
                url.query_pairs_mut().append_pair("marker", &marker);
            }
            let doing = |failure: AzureFailure| failure.doing("listing the container");
            let page = self.send(Method::GET, &url, &HeaderMap::new(), "").await.map_err(doing)?;
            let page: Page = self.xml(page).await.map_err(doing)?;
            for blob in &page.blobs.blob {
                if let Some(key) = self.own(&blob.name) {
                    each(key, blob);
                }
            }
            if page.next_marker.is_empty() || page.next_marker == marker {
                return Ok(());
            }
            marker = page.next_marker;
        }
    }

    pub(super) async fn count(&self) -> Result<Usage, StorageError> {
        let mut counter = Counter::default();
        for prefix in [UPLOADED, DISTRIBUTION] {
            self.list(prefix, |key, blob| counter.add(key, blob.properties.length)).await?;
        }
        Ok(counter.usage())
    }
}

fn header<'a>(answer: &'a Response, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// What `Content-Length` says, to a HEAD as well.
fn length(answer: &Response) -> u64 {
    header(answer, &CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or_default()
}
