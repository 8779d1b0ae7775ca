//! Integration tests of atcr-pds: published vectors, properties against a model, and the engine over its store.

mod car;
mod data_model;
mod mst;
mod mst_vectors;
mod reference;
mod support;
