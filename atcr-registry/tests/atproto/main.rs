//! The stores of the AT Protocol against a real PDS and a hold of upstream's kind.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod manifests;
mod plain_hold;
mod uploads;
mod world;
