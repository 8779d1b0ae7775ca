use askama::Template;
use atcr_auth::pds_session::SessionStoreError;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::page::{Visitor, html};
use crate::index::IndexError;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// Nothing has this name.
    #[error("{0}")]
    NotFound(String),
    /// The address cannot mean anything.
    #[error("{0}")]
    Invalid(String),
    /// Too many wait for changes already.
    #[error("too many pages are open; this one does not change by itself")]
    Busy,
    #[error("the index cannot be read: {0}")]
    Index(#[source] IndexError),
    #[error("the sessions cannot be read: {0}")]
    Sessions(#[from] SessionStoreError),
    #[error("the page could not be made: {0}")]
    Template(#[from] askama::Error),
}

impl From<IndexError> for PageError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Cursor(_) => Self::Invalid(error.to_string()),
            error => Self::Index(error),
        }
    }
}

impl PageError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Index(_) | Self::Sessions(_) | Self::Template(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What may be said to anybody; what failed inside goes to the log.
    pub(super) fn message(&self) -> String {
        match self {
            Self::NotFound(_) | Self::Invalid(_) | Self::Busy => self.to_string(),
            Self::Index(_) | Self::Sessions(_) | Self::Template(_) => {
                tracing::error!(error = %self, "a page could not be made");
                "Something failed here. Try again in a minute.".to_owned()
            }
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    visitor: Visitor,
    title: &'static str,
    message: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.status();
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::BAD_REQUEST => "That is not an address here",
            StatusCode::SERVICE_UNAVAILABLE => "Too busy",
            _ => "It did not work",
        };
        let page = Problem { visitor: Visitor::nobody(), title, message: self.message() };
        html(status, &page).unwrap_or_else(|_| status.into_response())
    }
}
