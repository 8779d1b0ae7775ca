//! Who is calling, and may they: the trait, and the implementation that lets everybody do everything.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod open;

use std::fmt::{self, Debug};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use open::OpenAuthorizer;

use crate::access::Principal;
use crate::error::Source;
use crate::oci::RepositoryName;

/// Decides over each request to a registry before anything else happens.
///
/// Contract, checked by the suite in `contract`: the decision depends on nothing but the credentials, the resource
/// and the implementation's own state; invalid credentials are [`Rejection::Challenge`], never treated as none; each
/// challenge carries at most one scope.
#[async_trait]
pub trait Authorizer: Debug + Send + Sync + 'static {
    /// Who is calling, if they may do this.
    async fn authorize(
        &self,
        credentials: &Credentials,
        resource: &Resource<'_>,
    ) -> Result<Principal, Rejection>;

    /// Whether anybody may pull from this repository, signed in or not. A blob is mounted from there although the
    /// caller's token names the target of the mount alone. It is not unless an implementation says so.
    async fn is_public(&self, _repository: &RepositoryName) -> bool {
        false
    }
}

/// What a request is about to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// `/v2/`: is this a registry, and am I signed in?
    Api,
    /// `/v2/_catalog`.
    Catalog,
    /// Something in a repository.
    Repository(&'a RepositoryName, Action),
}

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Reading manifests, tags, referrers and blobs.
    Pull,
    /// Writing blobs, manifests and tags.
    Push,
    /// Deleting any of them. A right of its own: it does not come with [`Action::Push`].
    Delete,
}

impl Action {
    /// The word for it in the scope of a token (`repository:<name>:<action>`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request's `Authorization` header says. The `Debug` form hides the secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// There is no such header, or it is Basic with neither name nor password, which some clients send for "nobody".
    None,
    /// `Bearer <token>`.
    Bearer(String),
    /// `Basic <name:password>`.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// A scheme or an encoding that is not understood.
    Unreadable,
}

impl Credentials {
    /// Reads the `Authorization` header.
    pub fn from_headers(headers: &http::HeaderMap) -> Self {
        let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Self::None };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|v| v.split_once(' ')) else {
            return Self::Unreadable;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::Bearer(rest.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Unreadable;
        }
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.split_once(':')) {
            Some(("", "")) => Self::None,
            Some((username, password)) => {
                Self::Basic { username: username.to_owned(), password: password.to_owned() }
            }
            None => Self::Unreadable,
        }
    }
}

impl Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bearer(_) => f.write_str("Bearer(…)"),
            Self::Basic { username, .. } => write!(f, "Basic({username}, …)"),
            Self::Unreadable => f.write_str("Unreadable"),
        }
    }
}

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// 401: come back with credentials, or with better ones.
    #[error("{message}")]
    Challenge {
        /// The value of `WWW-Authenticate`.
        www_authenticate: String,
        /// What to do, for a person.
        message: String,
    },
    /// 403: these credentials are understood and do not suffice, and no others of this caller would.
    #[error("{0}")]
    Denied(String),
    /// 503: it cannot be decided at the moment.
    #[error("{what} is not available at the moment; try again in a minute")]
    Unavailable {
        /// Which service.
        what: String,
        /// What happened.
        #[source]
        source: Source,
    },
}
