//! Integration tests of atcr-pds: published vectors, properties against a model, and the engine over its store.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod blobs;
mod car;
mod crash;
mod crawlers;
mod data_model;
mod events;
mod export;
mod faults;
mod frames;
mod fuzz;
mod hosting;
mod import;
mod mst;
mod mst_vectors;
mod random;
mod reads;
mod reference;
mod relay;
mod sequences;
mod store;
mod support;
mod world;
mod writes;
