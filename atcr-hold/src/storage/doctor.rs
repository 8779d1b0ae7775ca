//! Whether a storage does what a hold needs of it, tried out.

use std::time::{Duration, Instant};

use atcr_core::Source;
use atcr_core::blob_store::byte_stream;
use atcr_core::egress::{Egress, is_public};
use atcr_core::oci::{ByteRange, Digest};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, DATE, ETAG, ORIGIN, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Serialize;
use url::{Host, Url};

use super::{
    Object, ObjectKey, ObjectStorage, Part, PartNumber, SignedRequest, StorageError, StorageUpload, bare,
};

/// What the signed URLs are good for, but for those that are to expire.
const LIFE: Duration = Duration::from_secs(300);
/// Clocks may be so far apart before signatures are refused now and then.
const SKEW_ADVICE: i64 = 60;
/// And so far before storages refuse every one.
const SKEW_FAILURE: i64 = 5 * 60;
/// How long a URL is good that is tried after that.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// The most that the storage's clock may be behind for that to be tried, in seconds.
const EXPIRY_SKEW: u64 = 10;
/// Of an answer that is an error, so much is repeated.
const REPEATED: usize = 300;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was tried, in a word or two.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<&'static str>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it must be.
    Ok,
    /// The hold works, but something could be better.
    Advice,
    /// The hold does not work on this storage as it is set up.
    Failed,
}

/// Tries out a storage with a blob of one part of the usual size and a short one, which is removed again. Requests
/// that clients would send go through `egress`, which should let private addresses through: that a storage has one is
/// reported.
///
/// What depends on a check that failed is left out.
pub async fn examine(storage: &dyn ObjectStorage, egress: &Egress) -> Vec<Finding> {
    let mut examination = Examination { storage, egress, findings: Vec::new(), ahead: 0 };
    if let Some(upload) = examination.begins().await {
        let done = examination.goes_in(&upload).await;
        if done.is_none() {
            examination.is_thrown_away(&upload).await;
        }
    }
    examination.findings
}

struct Examination<'a> {
    storage: &'a dyn ObjectStorage,
    egress: &'a Egress,
    findings: Vec<Finding>,
    /// How many seconds the storage's clock is ahead of ours.
    ahead: i64,
}

/// An answer to a client's request.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().filter(|c| !c.is_control()).take(REPEATED).collect();
        format!("{} {text}", self.status)
    }
}

const ACCESS: &str = "compare the bucket, the endpoint, the region and the access key with what the storage's \
     console says; the key needs the permissions that docs/hold.md lists";
const SIGNED_PART: &str = "clients must reach the storage at this address: a proxy before it must take PUT, leave \
     path, query and Host as they are, and take bodies of storage.part_size; or set storage.presign to false";
const SIGNED_GET: &str = "clients must reach the storage at this address: a proxy or a CDN (storage.pull_zone) before \
     it must pass path, query and the storage's own Host on; or set storage.presign to false";
const CORS: &str =
    "only where a web page is to read blobs: allow GET and HEAD for its origin in the bucket's CORS rules";

impl Examination<'_> {
    fn note(&mut self, check: &'static str, verdict: Verdict, seen: impl Into<String>, remedy: &'static str) {
        let remedy = (verdict != Verdict::Ok).then_some(remedy);
        self.findings.push(Finding { check, verdict, seen: seen.into(), remedy });
    }

    /// Notes how a step went, and gives its result.
    fn step<T>(
        &mut self,
        check: &'static str,
        result: Result<T, StorageError>,
        seen: impl FnOnce(&T) -> String,
        remedy: &'static str,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.note(check, Verdict::Ok, seen(&value), remedy);
                Some(value)
            }
            Err(error) => {
                self.note(check, Verdict::Failed, error.to_string(), remedy);
                None
            }
        }
    }

    async fn begins(&mut self) -> Option<StorageUpload> {
        let begun = self.storage.begin_upload().await;
        let upload = self.step("access", begun, |_| "an upload can be begun".into(), ACCESS)?;
        let listed = self.storage.list_uploads().await.map(|open| open.len());
        let seen = |count: &usize| format!("{count} uploads are open");
        self.step(
            "uploads",
            listed,
            seen,
            "what is left of broken uploads cannot be found: allow s3:ListBucketMultipartUploads",
        );
        let nothing = ObjectKey::of_blob(&Digest::sha256(upload.0.as_bytes()));
        let missing = self.storage.stat(&nothing).await;
        let seen = |_: &Option<u64>| "an object that is not there is said not to be there".into();
        self.step(
            "missing",
            missing,
            seen,
            "S3 answers 403 for what is not there without s3:ListBucket on the bucket: allow it",
        );
        Some(upload)
    }

    async fn goes_in(&mut self, upload: &StorageUpload) -> Option<()> {
        let able = self.storage.capabilities();
        let size = usize::try_from(able.part_size).unwrap_or(16 << 20);
        let contents = [pattern(size), Bytes::from_static(b"the last part")];
        let first = PartNumber::MIN;
        let mut parts = Vec::new();
        if able.presign {
            // Of a part that is sent again, so that it does no harm where it is taken.
            let short = self.storage.presign_part(upload, first.saturating_add(1), SHORT_LIFE).await;
            let signed_at = Instant::now();
            parts.push(self.signed_part(upload, first, &contents[0]).await?);
            if let Ok(Some(short)) = short {
                self.expired(short, signed_at).await;
            }
        } else {
            parts.push(self.own_part(upload, first, &contents[0]).await?);
        }
        parts.push(self.own_part(upload, first.saturating_add(1), &contents[1]).await?);
        let listed = self.storage.list_parts(upload).await;
        let seen = |listed: &Vec<Part>| format!("{} of 2 parts are listed", listed.len());
        let listed = self.step("parts", listed, seen, "allow s3:ListMultipartUploadParts")?;
        if listed.len() != 2 {
            self.note(
                "parts",
                Verdict::Failed,
                "a part that was taken is not listed",
                "ask the storage's makers",
            );
        }
        let completed = self.storage.complete_upload(upload, &parts).await;
        let whole = contents.concat();
        let seen = |object: &Object| format!("{} bytes are one object", object.size);
        let object =
            self.step("completion", completed, seen, "the storage must join parts of 5 MiB and more")?;
        if object.size != whole.len() as u64 {
            let seen = format!("the object has {} of {} bytes", object.size, whole.len());
            self.note("completion", Verdict::Failed, seen, "ask the storage's makers");
        }
        let again = self.storage.complete_upload(upload, &parts).await;
        self.step("repetition", again, |_| "a completion can be repeated".into(), "ask the storage's makers");
        self.comes_out(&object, &whole).await;
        let wanted = ObjectKey::of_blob(&Digest::sha256(&whole));
        let kept = self.storage.relocate(&object.key, &wanted).await;
        let remedy = "the storage must take small objects, and copies where storage.layout is distribution";
        let key = self.step("commit", kept, |key| format!("it stands at {key}"), remedy)?;
        let removed = self.storage.delete(&key).await;
        self.step("deletion", removed, |()| "it is removed again".into(), "allow s3:DeleteObject")?;
        self.payload_hash().await;
        Some(())
    }

    /// Once its time is over, nobody may get in by a URL.
    async fn expired(&mut self, short: SignedRequest, signed_at: Instant) {
        let behind = u64::try_from(-self.ahead).unwrap_or(0);
        if behind > EXPIRY_SKEW {
            let remedy = "let NTP set both clocks, and call the doctor again";
            let seen = "the clocks are too far apart to try an expired URL";
            return self.note("expiry", Verdict::Advice, seen, remedy);
        }
        let over = SHORT_LIFE + Duration::from_secs(2 + behind);
        tokio::time::sleep_until((signed_at + over).into()).await;
        let sent = self.send(short.method, &short.url, short.headers, Bytes::from_static(b"late")).await;
        match sent {
            Ok(answer) if answer.status.is_success() => {
                let remedy = "whoever has seen a URL can use it for ever: let the storage check the expiry";
                self.note("expiry", Verdict::Failed, "a URL is good after its time", remedy);
            }
            Ok(answer) => {
                let seen = format!("a URL is refused after its time: {}", answer.status);
                self.note("expiry", Verdict::Ok, seen, "");
            }
            Err(error) => self.note("expiry", Verdict::Failed, error.to_string(), SIGNED_PART),
        }
    }

    async fn payload_hash(&mut self) {
        const REMEDY: &str = "bytes that are exchanged on their way to the storage are noticed by the hold alone: put \
             TLS between them";
        match self.storage.refuses_other_payload().await {
            Ok(None) => {}
            Ok(Some(true)) => {
                self.note(
                    "payload hash",
                    Verdict::Ok,
                    "a body that is not the one that was signed is refused",
                    "",
                );
            }
            Ok(Some(false)) => {
                self.note(
                    "payload hash",
                    Verdict::Advice,
                    "a body that is not the one that was signed is taken",
                    REMEDY,
                );
            }
            Err(error) => self.note("payload hash", Verdict::Advice, error.to_string(), REMEDY),
        }
    }

    async fn is_thrown_away(&mut self, upload: &StorageUpload) {
        let aborted = self.storage.abort_upload(upload).await;
        self.step(
            "abort",
            aborted,
            |()| "the upload is thrown away".into(),
            "allow s3:AbortMultipartUpload and s3:DeleteObject",
        );
    }

    async fn own_part(
        &mut self,
        upload: &StorageUpload,
        number: PartNumber,
        content: &Bytes,
    ) -> Option<Part> {
        let mut body = byte_stream(content.clone());
        let sent = self.storage.put_part(upload, number, Some(content.len() as u64), &mut body).await;
        let seen = |part: &Part| format!("a part of {} bytes went in through the hold", part.size);
        self.step("part", sent, seen, ACCESS)
    }

    async fn signed_part(
        &mut self,
        upload: &StorageUpload,
        number: PartNumber,
        content: &Bytes,
    ) -> Option<Part> {
        let signed = self.storage.presign_part(upload, number, LIFE).await;
        let signed = signed.and_then(|signed| signed.ok_or_else(|| no_url("a part")));
        let signed = self.step(
            "signing",
            signed,
            |signed| format!("clients are sent to {}", place(&signed.url)),
            ACCESS,
        )?;
        self.address(&signed.url).await;
        // A signature that is not checked lets everybody in.
        let forged = forged(&signed.url);
        match self.send(Method::PUT, &forged, signed.headers.clone(), Bytes::new()).await {
            Ok(answer) if answer.status.is_success() => {
                self.note(
                    "signatures",
                    Verdict::Failed,
                    "a URL with a wrong signature is good",
                    "let the storage check signatures",
                );
            }
            Ok(answer) => {
                let seen = format!("a wrong one is refused: {}", answer.status);
                self.note("signatures", Verdict::Ok, seen, "");
            }
            Err(error) => {
                self.note("signed part", Verdict::Failed, error.to_string(), SIGNED_PART);
                return None;
            }
        }
        let answer = match self.send(signed.method, &signed.url, signed.headers, content.clone()).await {
            Ok(answer) => answer,
            Err(error) => {
                self.note("signed part", Verdict::Failed, error.to_string(), SIGNED_PART);
                return None;
            }
        };
        if !answer.status.is_success() {
            self.note("signed part", Verdict::Failed, answer.said(), SIGNED_PART);
            return None;
        }
        self.clock(&answer);
        let etag = answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let Some(etag) = signed.etag.or(etag) else {
            let remedy =
                "a proxy before the storage must pass the header ETag back, and the storage must send one";
            self.note("signed part", Verdict::Failed, "the answer has no ETag", remedy);
            return None;
        };
        let seen = format!("{} bytes went in past the hold", content.len());
        self.note("signed part", Verdict::Ok, seen, SIGNED_PART);
        Some(Part { number, size: content.len() as u64, etag: bare(&etag).to_owned() })
    }

    /// Others refuse to be sent to private addresses, and tokens do not belong on the open network.
    async fn address(&mut self, url: &Url) {
        let public = match url.host() {
            Some(Host::Ipv4(ip)) => is_public(ip.into()),
            Some(Host::Ipv6(ip)) => is_public(ip.into()),
            Some(Host::Domain(name)) => {
                let port = url.port_or_known_default().unwrap_or(443);
                let found = tokio::net::lookup_host((name, port)).await;
                found.is_ok_and(|found| found.into_iter().all(|address| is_public(address.ip())))
            }
            None => false,
        };
        if !public {
            let remedy = "registries other than your own do not go to private addresses: give the storage a public one \
                          as storage.endpoint, or set storage.presign to false";
            self.note("address", Verdict::Advice, format!("{} is private", place(url)), remedy);
        } else if url.scheme() == "https" {
            self.note("address", Verdict::Ok, format!("{} is public", place(url)), "");
        } else {
            let remedy = "signed URLs are secrets while they are good: put TLS before the storage";
            self.note("address", Verdict::Advice, format!("{} has no TLS", place(url)), remedy);
        }
    }

    fn clock(&mut self, answer: &Answer) {
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        let Some(theirs) = theirs else {
            self.note(
                "clock",
                Verdict::Advice,
                "the storage does not say what time it is",
                "compare the clocks yourself",
            );
            return;
        };
        let ahead = theirs.as_second() - Timestamp::now().as_second();
        self.ahead = ahead;
        let verdict = match ahead.abs() {
            apart if apart > SKEW_FAILURE => Verdict::Failed,
            apart if apart > SKEW_ADVICE => Verdict::Advice,
            _ => Verdict::Ok,
        };
        let seen = format!("the storage's clock is {ahead} seconds ahead of this machine's");
        self.note("clock", verdict, seen, "signatures are bound to the time: let NTP set both clocks");
    }

    async fn comes_out(&mut self, object: &Object, whole: &[u8]) {
        let middle = object.size / 2;
        let range = ByteRange { start: middle, end: middle + 1000 };
        let expected = usize::try_from(middle).map_or(&whole[..0], |at| &whole[at..at + 1000]);
        let read = read(self.storage, object, range).await;
        let Some(bytes) = self.step("read", read, |bytes| format!("{} bytes were read", bytes.len()), ACCESS)
        else {
            return;
        };
        if bytes != expected {
            self.note("read", Verdict::Failed, "they are others than were sent", "do not use this storage");
        }
        if self.storage.capabilities().presign {
            self.signed_get(object, whole, range, expected).await;
        }
    }

    async fn signed_get(&mut self, object: &Object, whole: &[u8], range: ByteRange, expected: &[u8]) {
        let signed = self.storage.presign_get(&object.key, LIFE).await;
        let signed = signed.and_then(|url| url.ok_or_else(|| no_url("an object")));
        let Some(url) =
            self.step("signing", signed, |url| format!("readers are sent to {}", place(url)), ACCESS)
        else {
            return;
        };
        match self.send(Method::GET, &url, HeaderMap::new(), Bytes::new()).await {
            Ok(answer) if answer.status == StatusCode::OK && answer.body == whole => {
                let seen = format!("{} bytes came out past the hold", answer.body.len());
                self.note("signed read", Verdict::Ok, seen, SIGNED_GET);
            }
            Ok(answer) if answer.status == StatusCode::OK => {
                self.note("signed read", Verdict::Failed, "other bytes came than were sent", SIGNED_GET);
            }
            Ok(answer) => return self.note("signed read", Verdict::Failed, answer.said(), SIGNED_GET),
            Err(error) => return self.note("signed read", Verdict::Failed, error.to_string(), SIGNED_GET),
        }
        let mut headers = HeaderMap::new();
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        headers.insert(RANGE, HeaderValue::try_from(bytes).expect("digits"));
        headers.insert(ORIGIN, HeaderValue::from_static("https://browser.example"));
        let Ok(answer) = self.send(Method::GET, &url, headers, Bytes::new()).await else { return };
        let partial = answer.status == StatusCode::PARTIAL_CONTENT && answer.body == expected;
        let verdict = if partial { Verdict::Ok } else { Verdict::Failed };
        let seen =
            format!("a range was answered with {} and {} bytes", answer.status.as_u16(), answer.body.len());
        self.note(
            "ranges",
            verdict,
            seen,
            "containerd reads layers in ranges: what stands before the storage must pass Range on",
        );
        let cors = answer.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        let (verdict, seen) = if cors {
            (Verdict::Ok, "pages of other origins may read")
        } else {
            (Verdict::Advice, "pages of other origins may not read; container tools do not care")
        };
        self.note("cors", verdict, seen, CORS);
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Source> {
        let request = self.egress.request(method, url.clone())?.headers(headers).body(body);
        let mut response = self.egress.send(request).await?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            body.extend_from_slice(&piece);
            if body.len() as u64 > self.storage.capabilities().part_size + 1024 {
                break;
            }
        }
        Ok(Answer { status, headers, body })
    }
}

async fn read(
    storage: &dyn ObjectStorage,
    object: &Object,
    range: ByteRange,
) -> Result<Vec<u8>, StorageError> {
    let stream = storage.read(&object.key, range).await?;
    let pieces: Result<Vec<Bytes>, Source> = stream.try_collect().await;
    let failed = |source| StorageError::Failed { doing: format!("reading {}", object.key), source };
    pieces.map(|pieces| pieces.concat()).map_err(failed)
}

/// Bytes that no proxy can make smaller by much, and whose order shows.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The same URL with the last character of its query, which is of the signature, exchanged.
fn forged(url: &Url) -> Url {
    let mut query = url.query().unwrap_or_default().to_owned();
    let other = if query.ends_with('0') { '1' } else { '0' };
    query.pop();
    query.push(other);
    let mut forged = url.clone();
    forged.set_query(Some(&query));
    forged
}

/// Where a URL leads, without what makes it a secret.
fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn no_url(what: &str) -> StorageError {
    StorageError::Failed {
        doing: format!("signing a URL for {what}"),
        source: "the storage gives none although it says that it can".into(),
    }
}
