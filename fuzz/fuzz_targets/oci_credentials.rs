//! `Authorization` headers: whatever a client sends is read, and only what it says is found in it.
#![no_main]

use atcr_core::authorizer::Credentials;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    match Credentials::from_headers(&headers) {
        Credentials::Bearer(token) => assert!(data.trim_ascii_end().ends_with(token.as_bytes())),
        Credentials::Basic { username, password } => {
            assert!(!username.contains(':') && !(username.is_empty() && password.is_empty()));
        }
        Credentials::None | Credentials::Unreadable => {}
    }
});
