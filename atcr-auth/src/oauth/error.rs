use atcr_core::egress::EgressError;
use atcr_core::syntax::Did;
use http::StatusCode;

/// Why an exchange with an authorization server did not give what it was for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthError {
    /// The PDS does not say who its authorization server is, as PDSs without OAuth do not.
    #[error("{pds} does not offer sign-in by OAuth; use an app password with docker login")]
    NotOffered {
        /// The PDS.
        pds: String,
    },
    /// A metadata document is not what it must be.
    #[error("{url} is not usable: {reason}; tell whoever runs that server")]
    Metadata {
        /// Where it was read.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached, or the egress gate does not let the request through.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The server took longer than an exchange may take.
    #[error("{server} did not answer in time; try again in a minute")]
    Timeout {
        /// The origin of the server.
        server: String,
    },
    /// The server refused: an OAuth error.
    #[error("{server} refused: {error}: {description} ({status}){}", clocks(*.skew))]
    Refused {
        /// The origin of the server.
        server: String,
        /// The HTTP status.
        status: StatusCode,
        /// The name of the error, cut.
        error: String,
        /// What the server says about it, cut.
        description: String,
        /// How many seconds its clock is ahead of this machine's; 0 when they agree well enough.
        skew: i64,
    },
    /// The answer is not what the protocol asks for.
    #[error("{server} gave an answer that cannot be used: {reason}")]
    Answer {
        /// The origin of the server.
        server: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Somebody else has signed in than the account that was meant.
    #[error("{server} signed in {actual} when {expected} was meant; nothing was kept")]
    OtherAccount {
        /// The origin of the server.
        server: String,
        /// Who was meant.
        expected: Did,
        /// Who it says it is, cut.
        actual: String,
    },
    /// Less was permitted than a registry needs.
    #[error("{server} did not permit what a registry needs: {missing}; sign in again and permit it")]
    NotGranted {
        /// The origin of the server.
        server: String,
        /// The first scopes that are missing.
        missing: String,
    },
    /// The system gave no randomness.
    #[error("no random numbers could be had from the system")]
    Random,
    /// A session that was opened by OAuth, in a program that was started without an OAuth client.
    #[error("this session was opened by OAuth, which is not configured here")]
    NotConfigured,
}

impl OAuthError {
    /// The name of the OAuth error, if the server refused.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Egress(error) => !matches!(error, EgressError::Forbidden { .. }),
            Self::Timeout { .. } => true,
            Self::Refused { status, .. } => status.is_server_error() || status.as_u16() == 429,
            _ => false,
        }
    }
}

fn clocks(skew: i64) -> String {
    match skew {
        0 => String::new(),
        ahead @ 1.. => format!("; this machine's clock is {ahead} s behind that server's: set it right"),
        behind => {
            format!(
                "; this machine's clock is {} s ahead of that server's: set it right",
                behind.unsigned_abs()
            )
        }
    }
}
