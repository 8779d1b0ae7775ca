use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::Account;
use atcr_core::did_resolver::ResolveError;
use atcr_core::syntax::Did;
use atcr_core::xrpc::XrpcError;
use url::Url;

use super::SessionStoreError;

/// Turns what a person types at `docker login` into an account.
#[async_trait]
pub trait SignIn: Debug + Send + Sync + 'static {
    /// The account that this name and password open. The name is a handle or a DID.
    async fn sign_in(&self, identifier: &str, password: &str) -> Result<Account, SignInError>;

    /// The account, if it has signed in before and its session has not ended since.
    async fn signed_in(&self, did: &Did) -> Result<Option<Account>, SignInError>;
}

/// Why somebody could not sign in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// Neither a handle nor a DID.
    #[error(
        "{identifier:?} is not a user name here: {reason}; use your handle (alice.example.com) or your DID"
    )]
    InvalidIdentifier {
        /// What was typed, cut.
        identifier: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No account has this name, or its identity is broken.
    #[error("no account answers to {identifier}: {source}; check the spelling of the handle")]
    UnknownIdentity {
        /// What was typed.
        identifier: String,
        /// What the look-up found.
        source: ResolveError,
    },
    /// The identity cannot be looked up at the moment.
    #[error("{identifier} cannot be looked up at the moment; try again in a minute")]
    IdentityUnavailable {
        /// What was typed.
        identifier: String,
        /// What happened.
        #[source]
        source: ResolveError,
    },
    /// The PDS does not take the password.
    #[error(
        "{pds} does not accept this password for {identifier}; make an app password in the settings of your account and use that"
    )]
    WrongPassword {
        /// What was typed.
        identifier: String,
        /// The PDS that was asked.
        pds: String,
    },
    /// The PDS wants a second factor, which app passwords do without.
    #[error(
        "{pds} asks for a second factor for {identifier}; make an app password in the settings of your account and use that"
    )]
    SecondFactor {
        /// What was typed.
        identifier: String,
        /// The PDS that was asked.
        pds: String,
    },
    /// The PDS has closed the account.
    #[error("{pds} does not let {identifier} in: {message}")]
    AccountClosed {
        /// What was typed.
        identifier: String,
        /// The PDS that was asked.
        pds: String,
        /// What it says.
        message: String,
    },
    /// Too many wrong passwords for one account; the PDS was not asked.
    #[error("too many wrong passwords for {identifier}; wait {} s, then try again", .retry_after.as_secs())]
    TooManyAttempts {
        /// What was typed.
        identifier: String,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The PDS limits sign-ins.
    #[error("{pds} takes no more sign-ins at the moment; try again later")]
    PdsRateLimited {
        /// The PDS that was asked.
        pds: String,
        /// How long to wait, where it says so.
        retry_after: Option<Duration>,
    },
    /// The PDS cannot be reached, or is broken.
    #[error(
        "the PDS {pds} does not answer as it should; the password was not checked; try again in a minute"
    )]
    PdsUnavailable {
        /// The PDS that was asked.
        pds: String,
        /// What happened.
        #[source]
        source: Arc<XrpcError>,
    },
    /// The PDS opened a session of another account than the one meant.
    #[error("{pds} signed in {actual} when {expected} was meant; nothing was kept")]
    OtherAccount {
        /// The PDS that was asked.
        pds: String,
        /// Who was meant.
        expected: Did,
        /// Who it says it is.
        actual: Did,
    },
    /// A device's secret that is not, or no longer, known here, or under another account's name.
    #[error("this device is not known here any more; sign in again with docker-credential-atcr login")]
    UnknownDevice,
    /// The device is known, but its account has no session at its PDS here any more.
    #[error("the session of {did} at its PDS has ended; sign in again at {login_url}")]
    SessionEnded {
        /// Whose device it is.
        did: Did,
        /// Where to sign in.
        login_url: Url,
    },
    /// The session cannot be kept.
    #[error(transparent)]
    Store(#[from] SessionStoreError),
}
