//! An S3 server in memory, for tests. It is strict where some real servers are, so that what passes here passes there:
//! signatures in headers and in URLs with their expiry, the payload hash, the sizes of parts, their order, their ETags,
//! the greatest object that a copy takes, short pages of listings. It counts what it was asked and how many bytes went
//! either way, and fails on demand.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() {
//! use strict_s3::{Fault, Operation, Rules, Server};
//!
//! let server = Server::start(Rules::default()).await;
//! server.fail(Operation::UploadPart, 2, Fault::Unavailable);
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(server.requests().is_empty());
//! # }
//! ```

mod fault;
mod operation;
mod server;
mod service;
mod store;

pub use fault::Fault;
pub use operation::{Operation, Request};
pub use server::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
pub use store::Rules;
