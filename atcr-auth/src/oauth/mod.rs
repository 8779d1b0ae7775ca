//! The OAuth client of a registry (specification, OAuth): sign-in at an account's own authorization server.
//!
//! [`OAuthClient`] finds the server from the account's PDS, pushes a request (PAR, PKCE, DPoP), redeems the code that the
//! browser comes back with, refreshes and revokes. What it opens is a session of
//! [`AccountSessions`](crate::AccountSessions); the pages are those of [`WebSignIn`](crate::WebSignIn).
//!
//! No library is used: those at hand send the query in a proof's `htu`, panic at metadata that servers choose, or follow
//! whatever server a PDS names today.

mod client;
mod dpop;
mod error;
mod grant;
mod key;
mod pkce;
mod registration;
mod scope;
mod server_metadata;

pub use client::OAuthClient;
pub use error::OAuthError;
pub use grant::OAuthGrant;
pub use key::Es256Key;
pub use registration::{ClientKeys, ClientRegistration, RegistrationError};
pub use server_metadata::ServerMetadata;

pub(crate) use client::{Pending, Redeemed};
pub(crate) use dpop::Dpop;
pub(crate) use registration::{CALLBACK, JWKS, METADATA};
pub(crate) use scope::Ask;
