//! The pages of a registry over an index.
#![allow(missing_docs, clippy::unwrap_used)]

mod acting;
mod pages;
mod people;
mod world;
