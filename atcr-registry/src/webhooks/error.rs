use std::error::Error;

use atcr_core::egress::EgressError;

use crate::index::IndexError;

/// Why something could not be done with a hook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The address is not one that may be called.
    #[error("a webhook cannot have this address: {0}")]
    Url(String),
    /// The secret is longer than it may be.
    #[error("a webhook's secret has at most {0} bytes")]
    Secret(usize),
    /// The hook would never be told of anything.
    #[error("choose at least one thing that the webhook is told of")]
    NoTrigger,
    /// Something that nobody can be told of.
    #[error("{0:?} is nothing that a webhook is told of; it is push, scan:first, scan:all or scan:changed")]
    Trigger(String),
    /// The account has as many hooks as it may have.
    #[error("an account has at most {0} webhooks; remove one first")]
    TooMany(usize),
    /// The account has no such hook.
    #[error("there is no such webhook")]
    NotFound,
    /// It was tested a moment ago, or many others are being tested.
    #[error("a webhook is tested once in ten seconds; wait a moment")]
    TooSoon,
    /// The store does not answer, or has what it cannot have.
    #[error("the store of webhooks failed")]
    Store(#[source] atcr_core::Source),
    /// The index does not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl WebhookError {
    pub(super) fn store(error: impl Into<atcr_core::Source>) -> Self {
        Self::Store(error.into())
    }
}

impl From<sqlx::Error> for WebhookError {
    fn from(error: sqlx::Error) -> Self {
        Self::store(error)
    }
}

/// Why nothing was sent, in words for the hook's owner: without the address, which is a secret.
pub(super) fn reason(error: &EgressError) -> String {
    match error {
        EgressError::Forbidden { reason, .. } => format!("not allowed: {reason}"),
        error => {
            let mut inner: &dyn Error = error;
            while let Some(source) = inner.source() {
                inner = source;
            }
            // The last of several has no address in it.
            let cause = if inner.is::<EgressError>() { String::new() } else { format!(": {inner}") };
            format!("no connection{cause}").chars().filter(|c| !c.is_control()).take(160).collect()
        }
    }
}
