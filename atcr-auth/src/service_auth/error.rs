use atcr_core::did_resolver::ResolveError;
use atcr_core::syntax::Did;

/// Why a service token is not accepted. [`ServiceAuthError::name`] gives the name that the reference uses in XRPC
/// errors.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceAuthError {
    /// Not a JWT with the claims that a service token has.
    #[error("the service token is malformed: {0}")]
    BadJwt(&'static str),
    /// A token of another kind, such as the access token of a session.
    #[error(
        "a token of type {0:?} is not a service token; ask the PDS for one with com.atproto.server.getServiceAuth"
    )]
    BadJwtType(String),
    /// Its time is over.
    #[error(
        "the service token expired {seconds} s ago; get a new one, and compare the clocks if it has just been made"
    )]
    JwtExpired {
        /// For how long it has been expired, by this machine's clock.
        seconds: i64,
    },
    /// Made in the future, or for longer than such tokens live.
    #[error(
        "the service token is not valid at this time: {claim} lies {seconds} s ahead of this machine's clock"
    )]
    BadJwtTime {
        /// The claim: `iat`, `nbf` or `exp`.
        claim: &'static str,
        /// How far ahead it lies.
        seconds: i64,
    },
    /// Made for another service.
    #[error("the service token is for {actual}; this service is {expected}")]
    BadJwtAudience {
        /// What the token says, cut.
        actual: String,
        /// This service.
        expected: Did,
    },
    /// Made for another method, or for none where one is required.
    #[error("the service token is for the method {actual}; this is {expected}")]
    BadJwtLexiconMethod {
        /// What the token says, cut; `(none)` where it names none.
        actual: String,
        /// The method that was called.
        expected: String,
    },
    /// The issuer is not an account whose key can be known.
    #[error("the issuer {issuer} of the service token is not acceptable: {reason}")]
    BadJwtIss {
        /// What the token says, cut.
        issuer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not signed by the issuer's key.
    #[error("the service token is not signed by the #atproto key of {0}")]
    BadJwtSignature(Did),
    /// It has been used before.
    #[error("the service token has been used before; get a new one for each call")]
    JwtReplayed,
    /// Whether it is good cannot be found out at the moment.
    #[error("the identity of the caller cannot be looked up at the moment; try again in a minute")]
    IssuerUnavailable(#[source] ResolveError),
}

impl ServiceAuthError {
    /// The name for an XRPC error.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadJwt(_) | Self::BadJwtTime { .. } => "BadJwt",
            Self::BadJwtType(_) => "BadJwtType",
            Self::JwtExpired { .. } => "JwtExpired",
            Self::BadJwtAudience { .. } => "BadJwtAudience",
            Self::BadJwtLexiconMethod { .. } => "BadJwtLexiconMethod",
            Self::BadJwtIss { .. } => "BadJwtIss",
            Self::BadJwtSignature(_) => "BadJwtSignature",
            Self::JwtReplayed => "JwtReplayed",
            Self::IssuerUnavailable(_) => "UpstreamFailure",
        }
    }

    /// Whether the same token may be accepted later (answer 503 or 502, not 401).
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::IssuerUnavailable(_))
    }
}
