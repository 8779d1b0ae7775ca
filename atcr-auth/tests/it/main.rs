//! Integration tests of atcr-auth, against a PDS in this process that counts what it is asked.

mod fake_pds;
mod pds_session;
mod registry_token;
mod service_auth;
mod session_store;
mod token_endpoint;
