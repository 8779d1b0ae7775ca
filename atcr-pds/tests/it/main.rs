//! Integration tests of atcr-pds: published vectors, properties against a model, and the engine over its store.
#![allow(clippy::unwrap_used)]

mod car;
mod crash;
mod data_model;
mod engine;
mod faults;
mod import;
mod mst;
mod mst_vectors;
mod reference;
mod support;
mod world;
