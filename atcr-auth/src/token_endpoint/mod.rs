//! The token service that clients are sent to by the registry's challenge: `GET` and `POST /auth/token`
//! (distribution documentation, Token Authentication, and its OAuth2 form), and `GET /auth/jwks`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use atcr_auth::pds_session::StaticSignIn;
//! use atcr_auth::{Clock, NamespacePolicy, TokenConfig, TokenEndpoint, TokenIssuer, TokenKeys, TokenVerifier};
//! use atcr_core::did_resolver::{IdentityResolver, StaticResolver};
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (keys, config) = (Arc::new(TokenKeys::generate()?), TokenConfig::new("registry.example"));
//! let nobody = Arc::new(StaticResolver::default());
//! let endpoint = TokenEndpoint::new(
//!     TokenIssuer::new(keys.clone(), config.clone(), Clock::system()),
//!     TokenVerifier::new(keys, config, Clock::system()),
//!     Arc::new(StaticSignIn::default()),
//!     Arc::new(NamespacePolicy::new(IdentityResolver::new(nobody.clone(), nobody))),
//! );
//! let request = Request::get("/auth/token?service=registry.example&scope=repository:alice.example/app:pull");
//! let answer = endpoint.router().oneshot(request.body(Body::empty())?).await?;
//! assert_eq!(answer.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```

mod answer;
mod endpoint;
mod request;
mod scope;

pub use endpoint::TokenEndpoint;
