//! Integration tests of atcr-auth, against a PDS in this process that counts what it is asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake_pds;
mod oauth;
mod pds_session;
mod registry_token;
mod service_auth;
#[cfg(feature = "sqlite")]
mod session_store;
mod token_endpoint;
