use http::{HeaderMap, header};

/// A form that no page of this registry has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this form was not sent by a page of this registry; open the page again and repeat what you did")]
pub struct ForeignForm;

/// Refuses a form that a page of another site sent, as far as the browser tells.
pub(super) fn check_origin(headers: &HeaderMap, own: &str) -> Result<(), ForeignForm> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| origin.as_bytes() == own.as_bytes());
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    if origin && site { Ok(()) } else { Err(ForeignForm) }
}
