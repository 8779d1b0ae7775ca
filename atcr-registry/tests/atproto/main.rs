//! The stores of the AT Protocol against a real PDS and a hold of upstream's kind.

mod manifests;
mod plain_hold;
mod uploads;
mod world;
