//! Service tokens: how a service knows which account calls it (AT Protocol specification, Inter-Service
//! Authentication).
//!
//! An account's PDS signs a short JWT with the account's repository key: `iss` the account, `aud` the service, `lxm`
//! the one method it is good for. [`ServiceAuthVerifier`] checks one; [`mint`] makes one, for services that act as
//! themselves.

mod error;
mod mint;
mod verifier;

pub use error::ServiceAuthError;
pub use mint::{MintError, ServiceClaims, mint};
pub use verifier::{LxmPolicy, Replay, ServiceAuthConfig, ServiceAuthVerifier, VerifiedServiceToken};
