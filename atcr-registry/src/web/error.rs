use askama::Template;
use atcr_core::StoreError;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode, Uri};

use super::page::{Visitor, html};
use super::ui::WebUi;
use crate::index::IndexError;
use crate::webhooks::WebhookError;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    /// Nothing has this name.
    #[error("{0}")]
    NotFound(String),
    /// The address or the form cannot mean anything.
    #[error("{0}")]
    Invalid(String),
    /// Nobody is signed in; there they do.
    #[error("sign in first")]
    SignIn(String),
    /// It is somebody else's.
    #[error("{0}")]
    Forbidden(String),
    /// A form that no page of this registry has sent.
    #[error(
        "This form was not sent by a page of this registry. Open the page again and repeat what you did."
    )]
    ForeignForm,
    /// Something is in the way; whoever asks can decide about it.
    #[error("{0}")]
    Conflict(String),
    /// Too many wait for changes already.
    #[error("too many pages are open; this one does not change by itself")]
    Busy,
    #[error("the index cannot be read: {0}")]
    Index(#[source] IndexError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the page could not be made: {0}")]
    Template(#[from] askama::Error),
}

impl From<WebhookError> for PageError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::NotFound => Self::NotFound("You have no such webhook.".to_owned()),
            WebhookError::TooMany(_) | WebhookError::TooSoon => Self::Conflict(error.to_string()),
            WebhookError::Index(error) => error.into(),
            WebhookError::Store(_) => Self::Store(StoreError::internal(error)),
            error => Self::Invalid(error.to_string()),
        }
    }
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
            Self::NotFound(_) | Self::Store(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Invalid(_) | Self::Store(StoreError::Invalid(_)) => StatusCode::BAD_REQUEST,
            Self::SignIn(_) | Self::Store(StoreError::Unauthenticated(_)) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::ForeignForm | Self::Store(StoreError::Denied(_)) => {
                StatusCode::FORBIDDEN
            }
            Self::Conflict(_) | Self::Store(StoreError::Conflict(_)) => StatusCode::CONFLICT,
            Self::Store(StoreError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Store(StoreError::RateLimited { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(StoreError::Unavailable { .. }) => StatusCode::BAD_GATEWAY,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Index(_) | Self::Store(_) | Self::Template(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What may be said to anybody; what failed inside goes to the log.
    pub(super) fn message(&self) -> String {
        match self.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(error = %self, "a page could not be made");
                "Something failed here. Try again in a minute.".to_owned()
            }
            StatusCode::BAD_GATEWAY => {
                tracing::info!(error = ?self, "what somebody wanted could not be done");
                self.to_string()
            }
            _ => self.to_string(),
        }
    }

    /// A word for programs.
    pub(super) fn name(&self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::BAD_REQUEST => "InvalidRequest",
            StatusCode::UNAUTHORIZED => "AuthenticationRequired",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::PAYLOAD_TOO_LARGE => "TooLarge",
            StatusCode::TOO_MANY_REQUESTS => "RateLimitExceeded",
            StatusCode::BAD_GATEWAY => "UpstreamFailure",
            StatusCode::SERVICE_UNAVAILABLE => "Busy",
            _ => "InternalServerError",
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    visitor: Visitor,
    title: &'static str,
    message: String,
}

/// What an answer without a page has to say; [`frame`] makes the page of it.
#[derive(Debug, Clone)]
struct Problem {
    title: &'static str,
    message: String,
}

/// Gives failures the page that everything has: with the registry's name, who is signed in, and the search. So have
/// those that the framework finds by itself, for who reads HTML.
pub(super) async fn frame(State(ui): State<WebUi>, request: Request, next: Next) -> Response {
    // Who signs in on the page of a form that failed does not come back to the form.
    let here = if request.method() == Method::GET { request.uri().clone() } else { Uri::from_static("/") };
    let headers = request.headers().clone();
    let response = next.run(request).await;
    let status = response.status();
    let reads_html = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    let bare = !response.headers().contains_key(CONTENT_SECURITY_POLICY) && !is_json(&response);
    let problem = match response.extensions().get::<Problem>() {
        Some(problem) => problem.clone(),
        None if status.is_client_error() && reads_html && bare => {
            Problem { title: title(status), message: plain(status).to_owned() }
        }
        None => return response,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.uri, parts.headers) = (here, headers);
    let visitor = Visitor::or_nobody(&mut parts, &ui).await;
    let page = ProblemPage { visitor, title: problem.title, message: problem.message };
    let Ok(mut framed) = html(status, &page) else { return response };
    framed.headers_mut().extend(response.headers().get(ALLOW).map(|allow| (ALLOW, allow.clone())));
    framed
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/json"))
}

/// What may be said of a request that did not come as far as a page.
fn plain(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is no such page.",
        StatusCode::METHOD_NOT_ALLOWED => "This address is for forms. Open the page that has the form.",
        StatusCode::PAYLOAD_TOO_LARGE => "What was sent is larger than anything that is taken here.",
        _ => "What was sent cannot be read.",
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => "That cannot be understood",
        StatusCode::UNAUTHORIZED => "You are not signed in",
        StatusCode::FORBIDDEN => "That is not yours to do",
        StatusCode::CONFLICT => "Something is in the way",
        StatusCode::PAYLOAD_TOO_LARGE => "That is too large",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => "Too busy",
        _ => "It did not work",
    }
}

/// Sends a browser on to a page, with GET.
pub(super) fn see_other(path: &str) -> Response {
    // What cannot stand in a header is no path that was made here.
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        if let Self::SignIn(path) = &self {
            return see_other(path);
        }
        let status = self.status();
        let mut response = status.into_response();
        response.extensions_mut().insert(Problem { title: title(status), message: self.message() });
        response
    }
}
