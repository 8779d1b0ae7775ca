//! The index on both databases, against models that know nothing of it.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod databases;
mod events;
mod model;
mod network;
mod queries;
mod records;
mod verify;
