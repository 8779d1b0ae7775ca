use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, DATE, ORIGIN};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::ACCOUNT;
use crate::service::{self, Store};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the service")]
pub enum Operation {
    CopyBlob,
    DeleteBlob,
    GetBlob,
    GetBlockList,
    HeadBlob,
    ListBlobs,
    PutBlob,
    PutBlock,
    PutBlockList,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 503; nothing is done.
    Unavailable,
    /// It is done, and the connection ends without an answer.
    AnswerLost,
}

/// How strict the server is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Rules {
    /// The most blobs in a page of a listing.
    pub page: usize,
    /// How often somebody has to ask for a copy before it is done.
    pub copy_polls: u32,
    /// Whether pages of other origins may read.
    pub cors: bool,
    /// URLs are good for ever.
    pub ignores_expiry: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { page: 5000, copy_polls: 0, cors: false, ignores_expiry: false }
    }
}

/// A server on a free port of this machine, until it is dropped.
#[derive(Debug)]
pub struct Server {
    inner: Arc<Inner>,
    address: SocketAddr,
    task: AbortHandle,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rules: Rules,
    pub(crate) address: SocketAddr,
    store: Mutex<Store>,
    faults: Mutex<Vec<(Operation, u32, Fault)>>,
    requests: Mutex<Vec<Operation>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Notes a request, and tells what goes wrong with it.
    fn fault(&self, operation: Operation) -> Option<Fault> {
        lock(&self.requests).push(operation);
        let mut faults = lock(&self.faults);
        let due = faults.iter_mut().filter(|fault| fault.0 == operation).fold(None, |due, fault| {
            fault.1 -= 1;
            if fault.1 == 0 { Some(fault.2) } else { due }
        });
        faults.retain(|fault| fault.1 > 0);
        due
    }
}

impl Server {
    /// Starts a server with one empty container.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(rules: Rules) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let inner = Arc::new(Inner {
            rules,
            address,
            store: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&inner))).abort_handle();
        Self { inner, address, task }
    }

    /// The URL of the account: `http://127.0.0.1:<port>/<account>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.address)
    }

    /// Lets the `nth` request of this kind from now on fail, the first when it is 1.
    pub fn fail(&self, operation: Operation, nth: u32, fault: Fault) {
        lock(&self.inner.faults).push((operation, nth.max(1), fault));
    }

    /// How many requests of this kind came.
    pub fn count(&self, operation: Operation) -> usize {
        lock(&self.inner.requests).iter().filter(|seen| **seen == operation).count()
    }

    /// The names of all blobs, also of those that have nothing but blocks.
    pub fn blobs(&self) -> Vec<String> {
        self.inner.store().names()
    }

    /// The bytes of a blob.
    pub fn blob(&self, name: &str) -> Option<Bytes> {
        self.inner.store().content(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
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
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let origin = request.headers().contains_key(ORIGIN);
    let head = request.method() == Method::HEAD;
    let fault = inner.fault(service::operation(&request));
    let answered = match fault {
        Some(Fault::Unavailable) => Err(service::Refusal(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy")),
        _ => service::answer(&inner, request).await,
    };
    if fault == Some(Fault::AnswerLost) {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let mut response = answered.unwrap_or_else(|refusal| refusal.response(head));
    if inner.rules.cors && origin {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response.headers_mut().insert(DATE, service::date());
    Ok(response)
}
