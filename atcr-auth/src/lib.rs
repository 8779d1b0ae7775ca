//! Who is calling, and may they: registry tokens, Docker's token endpoint, service tokens of the AT Protocol and
//! sessions at accounts' PDSs.

mod clock;
mod jwt;
pub mod pds_session;
pub mod registry_token;
pub mod repository_policy;
pub mod service_auth;
pub mod token_endpoint;

pub use clock::Clock;
pub use pds_session::{AppPasswordSessions, PdsSessions, SessionError, SignIn, SignInError};
pub use registry_token::{TokenAuthorizer, TokenConfig, TokenIssuer, TokenKeys, TokenVerifier};
pub use repository_policy::{NamespacePolicy, RepositoryPolicy};
pub use service_auth::ServiceAuthVerifier;
pub use token_endpoint::TokenEndpoint;
