//! One client for both ways: to a hold, and straight to a bucket.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use atcr_auth::Clock;
use atcr_auth::service_auth::{ServiceClaims, mint};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::{Algorithm, Digest, Hasher};
use atcr_core::syntax::Did;
use atcr_hold::storage::{ObjectStorage as _, Part, S3Storage};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use url::Url;

use crate::hold::{OWNER, Process};

/// A blob that is made part by part: all alike but for a number in front.
pub(crate) struct Blob {
    pub(crate) size: u64,
    part_size: u64,
    seed: u64,
    pattern: Bytes,
    pub(crate) digest: Digest,
}

impl Blob {
    pub(crate) fn new(size: u64, part_size: u64, seed: u64) -> Self {
        let pattern: Bytes =
            (0..part_size).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()[0]).collect();
        let mut blob = Self { size, part_size, seed, pattern, digest: Digest::of(Algorithm::Sha256, b"") };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        (1..=blob.parts()).for_each(|number| hasher.update(&blob.part(number)));
        blob.digest = hasher.finish();
        blob
    }

    fn parts(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.part_size)).unwrap()
    }

    fn part_length(&self, number: u32) -> u64 {
        self.part_size.min(self.size - u64::from(number - 1) * self.part_size)
    }

    /// The parts in groups of one length: the first one's number, and how many there are.
    fn groups(&self, most: u32) -> Vec<(u32, u32)> {
        let full = u32::try_from(self.size / self.part_size).unwrap();
        let mut groups: Vec<(u32, u32)> =
            (1..=full).step_by(most as usize).map(|first| (first, most.min(full + 1 - first))).collect();
        groups.extend((full < self.parts()).then_some((full + 1, 1)));
        groups
    }

    fn part(&self, number: u32) -> Bytes {
        let mut bytes = self.pattern[..usize::try_from(self.part_length(number)).unwrap()].to_vec();
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        bytes[8..12].copy_from_slice(&number.to_le_bytes());
        bytes.into()
    }
}

/// How long an upload took, and how long its last step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) all: Duration,
    pub(crate) commit: Duration,
}

pub(crate) struct Client<'a> {
    hold: &'a Process,
    egress: Egress,
    owner: Did,
    audience: String,
    parallel: usize,
    batch: u32,
    progress: ProgressBar,
    /// Bytes of requests to the hold and of its answers.
    pub(crate) traffic: AtomicU64,
}

fn size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}

impl<'a> Client<'a> {
    pub(crate) fn new(hold: &'a Process, parallel: usize, batch: u32, progress: ProgressBar) -> Self {
        let mut policy = EgressPolicy::development();
        policy.total_timeout = Duration::from_secs(600);
        let egress = Egress::new(policy).unwrap();
        let audience = format!("did:web:127.0.0.1%3A{}", hold.url.port().unwrap());
        let owner = OWNER.parse().unwrap();
        Self { hold, egress, owner, audience, parallel, batch, progress, traffic: AtomicU64::new(0) }
    }

    async fn call(&self, method: &str, input: Value) -> Value {
        let claims = ServiceClaims {
            issuer: &self.owner,
            audience: &self.audience,
            method: Some(method),
            subject: None,
            lifetime: Duration::from_secs(60),
        };
        let token = mint(&self.hold.owner_key, &claims, &Clock::system()).unwrap();
        let url = self.hold.url.join(&format!("/xrpc/{method}")).unwrap();
        let body = input.to_string();
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).unwrap()),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let sent = size(&headers) + (body.len() + url.as_str().len()) as u64;
        let request = self.egress.request(Method::POST, url).unwrap().headers(headers).body(body);
        let mut response = self.egress.send(request).await.unwrap();
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.unwrap() {
            answer.extend_from_slice(&piece);
        }
        assert!(status.is_success(), "{method}: {status} {}", String::from_utf8_lossy(&answer));
        self.traffic.fetch_add(sent + size(response.headers()) + answer.len() as u64, Ordering::Relaxed);
        serde_json::from_slice(&answer).unwrap()
    }

    async fn put(&self, method: Method, url: Url, headers: HeaderMap, body: Bytes) -> String {
        let length = body.len() as u64;
        let request = self.egress.request(method, url).unwrap().headers(headers).body(body);
        let mut response = self.egress.send(request).await.unwrap();
        let status = response.status();
        let etag = response.headers().get(ETAG).map(|etag| etag.to_str().unwrap().to_owned());
        while let Some(piece) = response.chunk().await.unwrap() {
            assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&piece));
        }
        self.progress.inc(length);
        etag.expect("an ETag")
    }

    /// Whether everybody sees the blob.
    pub(crate) async fn is_public(&self, blob: &Blob) -> bool {
        let mut url = self.hold.url.join("/xrpc/com.atproto.sync.getBlob").unwrap();
        url.query_pairs_mut().append_pair("did", &self.audience).append_pair("cid", &blob.digest.to_string());
        let request = self.egress.request(Method::HEAD, url).unwrap();
        self.egress.send(request).await.unwrap().status().is_success()
    }

    /// Uploads through the hold.
    pub(crate) async fn upload(&self, blob: &Blob) -> Took {
        let began = Instant::now();
        let input = json!({ "digest": blob.digest, "size": blob.size });
        let begun = self.call("io.atcr.hold.initiateUpload", input).await;
        let (upload, capabilities) = (&begun["uploadId"], begun["capabilities"].as_array());
        let is_asked_together = capabilities.is_some_and(|all| all.iter().any(|one| one == "parts:batch"));
        let groups = blob.groups(if is_asked_together { self.batch } else { 1 });
        let addresses = stream::iter(groups).then(|(first, count)| async move {
            let size = blob.part_length(first);
            let mut input = json!({ "uploadId": upload, "partNumber": first, "size": size });
            if count > 1 {
                input["count"] = count.into();
            }
            let mut target = self.call("io.atcr.hold.getPartUploadUrl", input).await;
            let following = target["following"].take();
            let following = following.as_array().cloned().unwrap_or_default();
            assert_eq!(1 + following.len(), count as usize);
            stream::iter((first..).zip(std::iter::once(target).chain(following)))
        });
        let part = |(number, target): (u32, Value)| async move {
            let headers = target["headers"].as_object().into_iter().flatten().map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, value.as_str().unwrap().parse::<HeaderValue>().unwrap())
            });
            let url = target["url"].as_str().unwrap().parse().unwrap();
            let etag = self.put(Method::PUT, url, headers.collect(), blob.part(number)).await;
            (number, etag)
        };
        let mut parts: Vec<(u32, String)> =
            addresses.flatten().map(part).buffer_unordered(self.parallel).collect().await;
        parts.sort_unstable();
        let parts: Vec<Value> =
            parts.into_iter().map(|(number, etag)| json!({ "partNumber": number, "etag": etag })).collect();
        let ending = Instant::now();
        let input = json!({ "uploadId": upload, "digest": blob.digest, "parts": parts });
        self.call("io.atcr.hold.completeUpload", input).await;
        Took { all: began.elapsed(), commit: ending.elapsed() }
    }

    /// Uploads to the bucket with nobody between.
    pub(crate) async fn upload_directly(&self, storage: &S3Storage, blob: &Blob) -> Took {
        let began = Instant::now();
        let upload = storage.begin_upload().await.unwrap();
        let part = |number: u32| {
            let upload = &upload;
            async move {
                let bytes = blob.part(number);
                let size = bytes.len() as u64;
                let number = NonZeroU32::new(number).unwrap();
                let life = Duration::from_secs(600);
                let target = storage.presign_part(upload, number, life).await.unwrap().expect("it signs");
                let etag = self.put(target.method, target.url, target.headers, bytes).await;
                let etag = etag.trim_matches('"').to_owned();
                Ok::<_, std::convert::Infallible>(Part { number, etag, size })
            }
        };
        let parts = stream::iter(1..=blob.parts()).map(part).buffer_unordered(self.parallel);
        let Ok(mut parts) = parts.try_collect::<Vec<_>>().await;
        parts.sort_unstable_by_key(|part| part.number);
        let ending = Instant::now();
        storage.complete_upload(&upload, &parts).await.unwrap();
        Took { all: began.elapsed(), commit: ending.elapsed() }
    }
}
