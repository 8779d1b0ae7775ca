//! What authorization servers say about themselves: what is taken names itself and leads to https, or to this machine.
#![no_main]

use atcr_auth::oauth::ServerMetadata;
use libfuzzer_sys::fuzz_target;

const ISSUER: &str = "https://pds.example";

fuzz_target!(|data: &[u8]| {
    let Ok(server) = ServerMetadata::parse(data, ISSUER) else { return };
    assert_eq!(server.issuer, ISSUER);
    let endpoints = [&server.authorization_endpoint, &server.token_endpoint, &server.par_endpoint];
    for url in endpoints.into_iter().chain(&server.revocation_endpoint) {
        assert!(url.scheme() == "https" || url.scheme() == "http", "{url}");
        assert!(url.fragment().is_none() && url.username().is_empty() && url.password().is_none(), "{url}");
    }
});
