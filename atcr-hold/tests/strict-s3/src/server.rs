use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, ORIGIN, RANGE,
};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use md5::{Digest as _, Md5};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, StdError};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::fault::Faults;
use crate::service::{Bucket, hex};
use crate::store::{Content, Object, Store};
use crate::{Fault, Operation, Request, Rules};

/// The access key that is good.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7STRICTS";
/// Its secret.
pub const SECRET_KEY: &str = "a-secret-that-guards-nothing-at-all";
/// The only bucket.
pub const BUCKET: &str = "bucket";
/// The region.
pub const REGION: &str = "us-east-1";

/// A server on a free port of this machine, until it is dropped.
#[derive(Debug)]
pub struct Server {
    inner: Arc<Inner>,
    address: SocketAddr,
    task: AbortHandle,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    service: S3Service,
    faults: Faults,
    requests: Mutex<Vec<Arc<Seen>>>,
}

/// A request whose bytes are being counted.
#[derive(Debug)]
struct Seen {
    operation: Operation,
    path: String,
    presigned: bool,
    received: AtomicU64,
    sent: AtomicU64,
    status: AtomicU64,
}

impl Server {
    /// Starts a server with one empty bucket.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(rules: Rules) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let store = Arc::new(Store::new(rules));
        let mut builder = S3ServiceBuilder::new(Bucket::new(Arc::clone(&store)));
        builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let names = [format!("localhost:{}", address.port()), address.to_string()];
        builder.set_host(s3s::host::MultiDomain::new(&names).expect("these are domains"));
        let inner = Arc::new(Inner {
            store,
            service: builder.build(),
            faults: Faults::default(),
            requests: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&inner))).abort_handle();
        Self { inner, address, task }
    }

    /// The URL of its root: `http://127.0.0.1:<port>`. The bucket is the first segment of paths.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of its root by name, `http://localhost:<port>`: the bucket can stand before it.
    pub fn named_endpoint(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// Lets the `nth` request of this kind from now on fail, and only that. Faults of one kind of request come one
    /// after the other when they are due at the same time.
    pub fn fail(&self, operation: Operation, nth: u32, fault: Fault) {
        self.inner.faults.plan(operation, nth, fault);
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.inner.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|seen| seen.request()).collect()
    }

    /// How many requests of this kind came.
    pub fn count(&self, operation: Operation) -> usize {
        self.requests().iter().filter(|request| request.operation == operation).count()
    }

    /// All objects by their keys, with their sizes.
    pub fn objects(&self) -> Vec<(String, u64)> {
        let state = self.inner.store.lock();
        state.objects.iter().map(|(key, object)| (key.clone(), object.content.size)).collect()
    }

    /// The bytes of an object.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.inner.store.lock().objects.get(key).map(|object| object.content.pieces.concat().into())
    }

    /// Puts an object there, as somebody else would.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut content = Content::default();
        content.push(bytes.into());
        let etag = hex(&Md5::digest(content.pieces.concat()));
        let object = Object { content, etag, content_type: None, modified: SystemTime::now() };
        self.inner.store.lock().objects.insert(key.to_owned(), object);
    }

    /// Loses an object.
    pub fn remove(&self, key: &str) {
        self.inner.store.lock().objects.remove(key);
    }

    /// How many multipart uploads are open.
    pub fn open_uploads(&self) -> usize {
        self.inner.store.lock().uploads.len()
    }

    /// Loses the part with this number of every open upload.
    pub fn lose_part(&self, number: i32) {
        for upload in self.inner.store.lock().uploads.values_mut() {
            upload.parts.remove(&number);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn request(&self) -> Request {
        Request {
            operation: self.operation,
            path: self.path.clone(),
            presigned: self.presigned,
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            status: u16::try_from(self.status.load(Ordering::Relaxed)).unwrap_or_default(),
        }
    }
}

async fn serve(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let inner = Arc::clone(&inner);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(Arc::clone(&inner), request));
            let mut http = hyper::server::conn::http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // A client that goes away is a client's business.
            let _ = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    inner: Arc<Inner>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, std::io::Error> {
    let (mut parts, body) = request.into_parts();
    let operation = Operation::of(&parts);
    let query = parts.uri.query().unwrap_or_default();
    let seen = Arc::new(Seen {
        operation,
        path: parts.uri.path().to_owned(),
        presigned: query.contains("X-Amz-Signature="),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        status: AtomicU64::new(0),
    });
    inner.requests.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&seen));
    let fault = inner.faults.next(operation);
    let rules = &inner.store.rules;
    if rules.ignores_ranges {
        parts.headers.remove(RANGE);
    }
    let origin = parts.headers.get(ORIGIN).cloned();
    let has = |name: &str| parts.headers.contains_key(name);
    let signed = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signs_accept_encoding = signed.contains("accept-encoding") || query.contains("accept-encoding");
    let mut response = match fault {
        Some(Fault::Silence) => return std::future::pending().await,
        Some(Fault::Unavailable) => error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        Some(Fault::ErrorInBody) => error(StatusCode::OK, "InternalError"),
        Some(Fault::BadRequest) => error(StatusCode::BAD_REQUEST, "InvalidRequest"),
        _ if rules.google && operation == Operation::UploadPartCopy => {
            error(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
        }
        _ if rules.google
            && matches!(parts.method, Method::PUT | Method::POST)
            && !has(CONTENT_LENGTH.as_str()) =>
        {
            error(StatusCode::LENGTH_REQUIRED, "MissingContentLength")
        }
        _ if rules.google && (has("x-amz-trailer") || has("x-amz-decoded-content-length")) => {
            error(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
        }
        _ if rules.google && signs_accept_encoding => error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch"),
        _ if parts.method == Method::OPTIONS => {
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() = if rules.cors { StatusCode::OK } else { StatusCode::FORBIDDEN };
            response
        }
        _ => {
            let counted = Arc::clone(&seen);
            let body = counting(body, move |bytes| {
                counted.received.fetch_add(bytes, Ordering::Relaxed);
            });
            let called = inner.service.call(http::Request::from_parts(parts, body)).await;
            called.unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"))
        }
    };
    if fault == Some(Fault::AnswerLost) {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    seen.status.store(response.status().as_u16().into(), Ordering::Relaxed);
    let headers = response.headers_mut();
    if rules.bare_etags
        && let Some(etag) = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).map(|e| e.replace('"', ""))
    {
        headers.insert(ETAG, HeaderValue::try_from(etag).expect("a part of a header value"));
    }
    if rules.cors && origin.is_some() {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    if rules.clock_ahead != 0 {
        let ahead = Duration::from_secs(rules.clock_ahead.unsigned_abs());
        let now = SystemTime::now();
        let now = if rules.clock_ahead > 0 { now + ahead } else { now - ahead };
        headers.insert(DATE, date(now));
    }
    Ok(response.map(|body| {
        counting(body, move |bytes| {
            seen.sent.fetch_add(bytes, Ordering::Relaxed);
        })
    }))
}

/// Passes a body on and tells of its bytes.
fn counting<B>(body: B, count: impl Fn(u64) + Send + 'static) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    StdError: From<B::Error>,
{
    if body.is_end_stream() {
        return Body::empty();
    }
    Body::http_body_unsync(body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            count(data.len() as u64);
        }
        frame
    }))
}

fn date(at: SystemTime) -> HeaderValue {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at);
    text.ok().and_then(|text| text.try_into().ok()).unwrap_or(HeaderValue::from_static("now"))
}

fn error(status: StatusCode, code: &str) -> http::Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    let mut response = http::Response::new(Body::from(xml));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}
