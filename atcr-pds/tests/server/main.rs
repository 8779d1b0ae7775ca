//! The development PDS as its clients see it: every status, name and limit here is the reference server's, recorded
//! from `@atproto/pds` 0.5.35.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod blobs;
mod firehose;
mod identity;
mod limits;
mod oauth_clients;
mod oauth_codes;
mod oauth_discovery;
mod oauth_documents;
mod oauth_dpop;
mod oauth_pages;
mod oauth_redirects;
mod oauth_refresh;
mod oauth_requests;
mod oauth_scopes;
mod oauth_store;
mod oauth_world;
mod plc;
mod records;
mod schemas;
mod service_auth;
mod session;
mod sync;
mod world;
mod xrpc;
