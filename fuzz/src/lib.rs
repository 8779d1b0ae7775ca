//! What every fuzz target asks of the code, and the seeds that its corpus begins with.
//!
//! The targets in `fuzz_targets/` hand each input to a function of [`pds`]; a test of atcr-pds does the same with the
//! seeds, on a stable compiler.

pub mod pds;
pub mod requests;
pub mod seeds;
pub mod sign_in;
