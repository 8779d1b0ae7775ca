//! A registry that has several names: images are pushed and pulled under each of them, pages are at one place.

use std::sync::Arc;

use atcr_registry::web::RegistryDomain;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use url::Url;

/// What programs ask for under every name. The rest is pages, which know people by a cookie of one name.
const FOR_PROGRAMS: [&str; 9] = [
    "/v2",
    "/auth/token",
    "/auth/jwks",
    "/auth/device/",
    "/api/",
    "/feed/",
    "/install.sh",
    "/install.ps1",
    "/.well-known/",
];

struct Names {
    base: Url,
    others: Vec<RegistryDomain>,
}

/// Sends who opens a page under one of `domains` on to the same page at `base_url`. A name that is none of these is
/// answered as if it were that of `base_url`.
pub(crate) fn pages_at_one_place(router: Router, base_url: &Url, domains: Vec<RegistryDomain>) -> Router {
    let others: Vec<_> = domains.into_iter().filter(|domain| !domain.is(base_url.authority())).collect();
    if others.is_empty() {
        return router;
    }
    let names = Arc::new(Names { base: base_url.clone(), others });
    router.layer(from_fn_with_state(names, send_on))
}

async fn send_on(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    match elsewhere(&names, &request) {
        Some(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        None => next.run(request).await,
    }
}

fn elsewhere(names: &Names, request: &Request) -> Option<HeaderValue> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str))?;
    let path = request.uri().path();
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD)
        && !FOR_PROGRAMS.iter().any(|prefix| path.starts_with(prefix));
    if !is_page || !names.others.iter().any(|name| name.is(host)) {
        return None;
    }
    let rest = request.uri().path_and_query().map_or("/", |rest| rest.as_str());
    // The path begins with a slash, so that it leads to no other host.
    HeaderValue::try_from(format!("{}{rest}", names.base.origin().ascii_serialization())).ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::any;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(host: &str, method: Method, path: &str) -> (StatusCode, Option<String>) {
        let router = Router::new().fallback(any(|| async { "here" }));
        let domains = ["images.example", "Registry.Example", "localhost:5000"];
        let domains = domains.map(|domain| domain.parse().unwrap()).to_vec();
        let base = "https://registry.example".parse().unwrap();
        let router = pages_at_one_place(router, &base, domains);
        let request = Request::builder().method(method).uri(path).header(HOST, host);
        let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let location = answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        (answer.status(), location)
    }

    #[tokio::test]
    async fn pages_are_at_one_place_and_images_at_all() {
        let here = (StatusCode::OK, None);
        for host in ["images.example", "IMAGES.example", "localhost:5000"] {
            for (path, there) in [
                ("/", "https://registry.example/"),
                ("/r/alice.example/app?tag=1", "https://registry.example/r/alice.example/app?tag=1"),
                ("/auth/oauth/login?handle=a", "https://registry.example/auth/oauth/login?handle=a"),
                ("//evil.example/", "https://registry.example//evil.example/"),
            ] {
                let sent = (StatusCode::TEMPORARY_REDIRECT, Some(there.to_owned()));
                assert_eq!(ask(host, Method::GET, path).await, sent, "{host}{path}");
            }
            for path in ["/v2/", "/v2/alice.example/app/manifests/1", "/auth/token?scope=x", "/api/v1/search"]
            {
                assert_eq!(ask(host, Method::GET, path).await, here, "{host}{path}");
            }
            assert_eq!(ask(host, Method::POST, "/auth/device/code").await, here);
        }
        // What is none of ours is answered as before, and so is the name that the URL has.
        for host in ["registry.example", "other.example", "images.example.evil.example", "localhost:5001", ""]
        {
            assert_eq!(ask(host, Method::GET, "/r/alice.example/app").await, here, "{host}");
        }
    }
}
