use atcr_core::egress::{Egress, EgressPolicy};
use bytes::Bytes;
use http::header::RANGE;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// What somebody got who sent a request over the network.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) async fn send(method: Method, url: &Url, headers: HeaderMap, body: Bytes) -> Reply {
    let egress = Egress::new(EgressPolicy::development()).unwrap();
    let request = egress.request(method, url.clone()).unwrap().headers(headers).body(body);
    let mut response = egress.send(request).await.unwrap();
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    Reply { status, headers, body: body.into() }
}

pub(crate) async fn get(url: &Url, range: Option<&str>) -> Reply {
    let range = range.map(|range| (RANGE, range.parse().unwrap()));
    send(Method::GET, url, range.into_iter().collect(), Bytes::new()).await
}
