//! The binaries as their users meet them.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod audit;
mod chunks;
mod cli;
mod credential_helper;
mod device_sign_in;
mod domains;
mod hold;
mod index;
mod install;
mod outage;
mod push_pull;
mod repo;
mod sign_in;
mod storage;
mod support;
mod web;
