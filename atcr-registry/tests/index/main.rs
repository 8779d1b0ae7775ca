//! The index on both databases, against models that know nothing of it.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod batches;
mod databases;
mod events;
mod healing;
mod holds;
mod jetstream;
mod model;
mod network;
mod queries;
mod records;
mod streams;
mod verify;
