//! The registry from outside: requests against a registry in memory, and a real client over a real socket.

#![allow(clippy::unwrap_used)]

mod blobs;
mod client;
mod deletes;
mod errors;
mod hostile;
mod killed;
mod kinds;
mod limits;
mod manifests;
mod model;
mod museum;
mod museum_storage;
mod referrers;
mod sessions;
mod socket;
mod stores;
mod support;
mod tags;
mod uploads;
