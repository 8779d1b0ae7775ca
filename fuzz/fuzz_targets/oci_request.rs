//! Whole requests: paths, names, references, ranges, session tokens, bodies. The first line is the method, the second
//! the path with its query, then headers until an empty line, then the body. No request is a fault of the registry, and
//! no token that the registry did not make is taken.
#![no_main]

use std::sync::LazyLock;

use atcr_registry::Registry;
use axum::body::{Body, to_bytes};
use http::Request;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

static WORLD: LazyLock<(Runtime, Registry)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (runtime.expect("a runtime"), Registry::memory())
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Ok(head) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let body = parts.next().unwrap_or_default().to_vec();
    let mut lines = head.lines();
    let (method, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(Body::from(body)) else { return };
    let is_step = request.uri().path().contains("/blobs/uploads/") && request.method() != "POST";
    let (runtime, registry) = &*WORLD;
    runtime.block_on(async {
        let response = registry.handle(request).await;
        let status = response.status();
        assert!(!status.is_server_error(), "{status}");
        assert!(!is_step || !status.is_success(), "a forged session: {status}");
        let whole = to_bytes(response.into_body(), 64 << 20).await.expect("a body");
        if status.is_client_error() && !whole.is_empty() {
            let error: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
            assert!(error["errors"][0]["code"].is_string());
        }
    });
});
