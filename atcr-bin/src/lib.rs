//! The parts that the atcr binaries share: configuration, logging, serving, and the wiring of the libraries.
//!
//! Nothing here is meant to be depended on; embed `atcr-registry`, `atcr-hold` or `atcr-pds` instead.

pub mod appview;
pub mod audit;
pub mod cli;
pub mod config;
pub mod credential_helper;
pub mod dev;
mod domains;
mod error;
pub mod hold;
pub mod keys;
pub mod logging;
mod progress;
pub mod serve;
mod visitors;

pub use error::{Error, exit};

/// Runs a program's main future to its end on a runtime of its own.
pub fn block_on<T>(main: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Error::start("the runtime"))?.block_on(main)
}
