use std::time::Duration;

use atcr_core::did_resolver::ResolveError;
use axum::response::Response;
use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::browser::{ForeignForm, LOGIN};
use crate::oauth::OAuthError;
use crate::pages::{self, Forms};
use crate::pds_session::{SessionError, SessionStoreError};

/// Why a sign-in did not come about, in words for whoever tries it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(
        "This sign-in is not known here: it was finished already, or it took longer than ten minutes. Please begin again."
    )]
    UnknownState,
    #[error("This sign-in was begun in another browser. Please begin again in this one.")]
    ForeignBrowser,
    #[error("The answer does not come from the server that was asked ({0}). Nothing was kept.")]
    OtherServer(String),
    #[error("The server of your account says: {0}")]
    Denied(String),
    #[error("The server of your account sent you back without a code. Please begin again.")]
    NoCode,
    #[error(transparent)]
    ForeignForm(#[from] ForeignForm),
    #[error(transparent)]
    Identity(#[from] ResolveError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("Sign-in with a browser is not configured here.")]
    NotConfigured,
    #[error("Too many sign-ins were begun from your address. Please wait {} seconds, then try again.", .0.as_secs())]
    TooMany(Duration),
    #[error("Very many people are signing in at this moment. Please try again in a minute.")]
    Busy,
    #[error("No random numbers could be had from the system.")]
    Random,
}

impl From<SessionStoreError> for Problem {
    fn from(error: SessionStoreError) -> Self {
        Self::Session(error.into())
    }
}

impl From<OAuthError> for Problem {
    fn from(error: OAuthError) -> Self {
        Self::Session(error.into())
    }
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Session(SessionError::Store(_)) | Self::Random => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotConfigured => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::ForeignForm(_) | Self::ForeignBrowser | Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Session(error) if error.is_transient() => StatusCode::BAD_GATEWAY,
            Self::Identity(ResolveError::Unavailable { .. }) => StatusCode::BAD_GATEWAY,
            Self::UnknownState
            | Self::NoCode
            | Self::OtherServer(_)
            | Self::Identity(_)
            | Self::Session(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// What the audit log calls it: words of a server may hold what it was sent.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::UnknownState => "unknown_state",
            Self::ForeignBrowser => "foreign_browser",
            Self::OtherServer(_) => "other_server",
            Self::Denied(_) => "denied",
            Self::NoCode => "no_code",
            Self::ForeignForm(_) => "foreign_form",
            Self::Identity(_) => "identity",
            Self::Session(_) => "session",
            Self::NotConfigured => "not_configured",
            Self::TooMany(_) => "too_many_attempts",
            Self::Busy => "busy",
            Self::Random => "random",
        }
    }

    /// The page that says so. Nobody is sent anywhere.
    pub(super) fn page(self) -> Response {
        let status = self.status();
        let wait = if let Self::TooMany(wait) = self { Some(wait) } else { None };
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "a sign-in failed");
            "Something is broken at this registry. Please try again later.".to_owned()
        } else {
            tracing::info!(error = %self, "a sign-in failed");
            self.to_string()
        };
        let page = pages::Problem { title: "You are not signed in", message: &message, again: Some(LOGIN) };
        let mut response = pages::show(status, &page, Forms::Here);
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}
