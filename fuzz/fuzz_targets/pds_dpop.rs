//! Proofs of a key that nobody has (RFC 9449), at the endpoint that takes them first. None is taken, and none is a fault
//! of the server.
#![no_main]

use std::sync::{Arc, LazyLock};

use atcr_pds::Clock;
use atcr_pds::accounts::{Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const FORM: &str = "client_id=http%3A%2F%2Flocalhost&response_type=code&redirect_uri=http%3A%2F%2F127.0.0.1%2F\
&scope=atproto&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

static WORLD: LazyLock<(Runtime, Router)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let router = runtime.block_on(async {
        let directory = Directory::open(None, Clock::system()).await.expect("a directory");
        let url = "http://localhost:2583".parse().expect("a URL");
        Pds::open(PdsConfig::new(url, Arc::new(directory))).await.expect("a PDS").router()
    });
    (runtime, router)
});

fuzz_target!(|data: &[u8]| {
    let Ok(proof) = HeaderValue::from_bytes(data) else { return };
    let request = Request::post("/oauth/par")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("dpop", proof)
        .body(Body::from(FORM));
    let (runtime, router) = &*WORLD;
    let answer = runtime.block_on(router.clone().oneshot(request.expect("a request")));
    let status = answer.expect("an answer").status();
    assert!(status.is_client_error(), "{status}");
});
