//! A hold as its callers see it, over HTTP in the same process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod access;
mod azure;
mod blobs;
mod client;
mod deletion;
mod direct;
mod doctor;
mod faults;
mod google;
mod identity;
mod legacy;
mod manifests;
mod pds;
mod presigned;
mod quota;
mod replicas;
mod s3;
mod states;
mod sweep;
mod upkeep;
mod uploads;
mod world;
