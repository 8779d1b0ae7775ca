//! The pages of a registry over an index.
#![allow(missing_docs, clippy::unwrap_used)]

mod acting;
mod brand;
mod holds;
mod hook_pages;
mod hooks;
mod pages;
mod people;
mod scans;
mod world;
