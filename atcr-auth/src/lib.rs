//! Who is calling, and may they: registry tokens, Docker's token endpoint, service tokens of the AT Protocol and
//! sessions at accounts' PDSs.
//!
//! A client that knocks at `/v2/` is sent to [`TokenEndpoint`] by the challenge of [`TokenAuthorizer`]. The endpoint
//! signs people in at their own PDS ([`AccountSessions`]), asks a [`RepositoryPolicy`] what they may, and hands
//! out a token of five minutes for it. What is then done at the PDS goes through [`PdsSessions`]; what is done at a
//! hold carries a service token of that PDS, which the hold checks with [`ServiceAuthVerifier`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use atcr_auth::{Clock, NamespacePolicy, TokenAuthorizer, TokenConfig, TokenIssuer, TokenKeys, TokenVerifier};
//! use atcr_auth::registry_token::RepositoryAccess;
//! use atcr_core::authorizer::{Action, Authorizer, Credentials, Rejection, Resource};
//! use atcr_core::did_resolver::{IdentityResolver, StaticResolver};
//! use atcr_core::{Account, Principal, Proof};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = Arc::new(TokenKeys::generate()?);
//! let config = TokenConfig::new("registry.example");
//! let issuer = TokenIssuer::new(keys.clone(), config.clone(), Clock::system());
//! let verifier = TokenVerifier::new(keys, config, Clock::system());
//!
//! let nobody = Arc::new(StaticResolver::default());
//! let policy = Arc::new(NamespacePolicy::new(IdentityResolver::new(nobody.clone(), nobody)));
//! let registry = TokenAuthorizer::new(verifier, policy, &"https://registry.example".parse()?);
//!
//! // Without a token a client is told where to get one ...
//! let app = "alice.example/app".parse()?;
//! let push = Resource::Repository(&app, Action::Push);
//! let Err(Rejection::Challenge { www_authenticate, .. }) = registry.authorize(&Credentials::None, &push).await
//! else { panic!("challenged") };
//! assert_eq!(
//!     www_authenticate,
//!     r#"Bearer realm="https://registry.example/auth/token",service="registry.example",scope="repository:alice.example/app:pull,push""#,
//! );
//!
//! // ... and with it, it is let in.
//! let alice = Principal::Account(Account {
//!     did: "did:plc:alice".parse()?,
//!     handle: Some("alice.example".parse()?),
//!     proof: Proof::AppPassword,
//! });
//! let access = RepositoryAccess { name: app.clone(), actions: vec![Action::Pull, Action::Push] };
//! let token = issuer.issue(&alice, &[access])?.token;
//! assert_eq!(registry.authorize(&Credentials::Bearer(token), &push).await?, alice);
//! # Ok(())
//! # }
//! ```
//!
//! Every service here is mounted by the program that embeds it: [`TokenEndpoint::router`] gives an `axum::Router`,
//! and nothing binds a port, reads the environment, or reaches out but through [`atcr_core::egress`].
//!
//! | part | what it does |
//! |---|---|
//! | [`registry_token`] | makes and verifies ES256 registry tokens; key rotation, JWKS; the [`Authorizer`](atcr_core::Authorizer) |
//! | [`token_endpoint`] | `/auth/token` as Docker, containerd, podman and the rest use it |
//! | [`repository_policy`] | who may do what where |
//! | [`web_sign_in`] | sign-in with a browser: routes and pages |
//! | [`browser`] | who is signed in in which browser |
//! | [`oauth`] | the OAuth client behind it |
//! | [`device_flow`] | sign-in of devices without a browser: routes and pages |
//! | [`pds_session`] | sign-in, sessions, refresh, service tokens at an account's PDS |
//! | [`service_auth`] | makes and verifies service tokens |
//!
//! The feature `sqlite` (default) keeps sessions in an encrypted SQLite table.

pub mod browser;
mod clock;
pub mod device_flow;
mod jwt;
pub mod oauth;
mod pages;
pub mod pds_session;
mod peer;
pub mod registry_token;
pub mod repository_policy;
pub mod service_auth;
pub mod token_endpoint;
pub mod web_sign_in;

pub use browser::Browsers;
pub use clock::Clock;
pub use device_flow::{DeviceFlow, DeviceSignIn};
pub use oauth::OAuthClient;
pub use pds_session::{AccountSessions, OnSignIn, PdsSessions, SessionError, SignIn, SignInError};
pub use peer::{InvalidNetwork, Network, TrustedProxies};
pub use registry_token::{TokenAuthorizer, TokenConfig, TokenIssuer, TokenKeys, TokenVerifier};
pub use repository_policy::{NamespacePolicy, RepositoryPolicy};
pub use service_auth::ServiceAuthVerifier;
pub use token_endpoint::TokenEndpoint;
pub use web_sign_in::WebSignIn;
