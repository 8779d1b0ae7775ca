use atcr_core::methods::{Method, error_name};
use atcr_core::syntax::Did;
use atcr_pds::xrpc::{Input, XrpcError};
use axum::extract::{FromRequest as _, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Hold;
use crate::access::Use;

/// The caller of a procedure and its input. The body of somebody unknown is not read.
pub(super) async fn call<M: Method>(
    hold: &Hold,
    request: Request,
    how: Use,
) -> Result<(Did, M::Input), XrpcError> {
    let caller = hold.inner.tokens.caller(M::NSID, request.headers(), how).await?;
    let Input(input) = Input::<M::Input>::from_request(request, &()).await?;
    Ok((caller, input))
}

/// As [`call`], of a method that has a name for the error that its field `digest` is not a `D`.
pub(super) async fn call_with_digest<M: Method, D: DeserializeOwned>(
    hold: &Hold,
    request: Request,
) -> Result<(Did, M::Input), XrpcError> {
    let caller = hold.inner.tokens.caller(M::NSID, request.headers(), Use::Repeatable).await?;
    let Input(input) = Input::<Value>::from_request(request, &()).await?;
    if let Some(Err(error)) = input.get("digest").map(|digest| D::deserialize(digest)) {
        return Err(XrpcError::bad(error_name::INVALID_DIGEST, error.to_string()));
    }
    let input = serde_json::from_value(input)
        .map_err(|error| XrpcError::invalid_request(format!("Invalid {} input: {error}", M::NSID)))?;
    Ok((caller, input))
}
