//! A development PDS: accounts with passwords, sessions and an OAuth provider over [`Repos`](crate::Repos), with the
//! reference server's behaviour, so that programs can be tried against a PDS that starts in a moment.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use atcr_pds::Clock;
//! use atcr_pds::accounts::{Pds, PdsConfig};
//! use atcr_pds::plc::directory::Directory;
//!
//! let directory = Directory::open(None, Clock::system()).await?;
//! let config = PdsConfig::new("http://localhost:2583".parse()?, Arc::new(directory.clone()));
//! let pds = Pds::open(config).await?;
//! let did = pds.ensure_account(&"alice.test".parse()?, "a password", "alice@example.test").await?;
//! assert_eq!(pds.resolve_handle(&"alice.test".parse()?).await?, Some(did));
//! let _routes: axum::Router = pds.router();
//! # Ok(())
//! # }
//! ```

mod account;
mod auth;
mod config;
mod error;
mod handles;
mod limits;
mod oauth;
mod password;
mod pds;
mod routes;
mod service_auth;
mod session;
mod store;
mod token;

pub use account::NewAccount;
pub use config::{MAX_SERVICE_TOKEN, PdsConfig};
pub use error::AccountError;
pub use limits::{Limit, RateLimits};
pub use oauth::{ClientDocuments, DocumentError, EgressDocuments};
pub use pds::Pds;
pub use session::Session;
