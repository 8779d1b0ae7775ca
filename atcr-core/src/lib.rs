//! The ground of atcr.
pub mod crypto;
pub mod oci;
pub mod syntax;
