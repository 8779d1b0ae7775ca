//! The token service that clients are sent to by the registry's challenge: `GET` and `POST /auth/token`
//! (distribution documentation, Token Authentication, and its OAuth2 form), and `GET /auth/jwks`.

mod answer;
mod endpoint;
mod request;
mod scope;

pub use endpoint::TokenEndpoint;
