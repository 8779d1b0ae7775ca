//! A block blob service of Azure in memory, for tests: shared access signatures with their rights and expiry, blocks that
//! belong to a blob and go when it is written, conditions, copies that take their time, short pages of listings.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() {
//! use strict_azure::{Fault, Operation, Rules, Server};
//!
//! let server = Server::start(Rules::default()).await;
//! server.fail(Operation::PutBlock, 2, Fault::Unavailable);
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(server.blobs().is_empty());
//! # }
//! ```

mod sas;
mod server;
mod service;

pub use server::{Fault, Operation, Rules, Server};

/// The account.
pub const ACCOUNT: &str = "strictaccount";
/// Its key.
pub const KEY: &str = "c3RyaWN0LWF6dXJlLWd1YXJkcy1ub3RoaW5n";
/// The only container.
pub const CONTAINER: &str = "container";
