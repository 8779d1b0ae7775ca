use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::syntax::{Did, Nsid};
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::XrpcError;
use crate::WriteAction;

/// Who is calling: sessions and OAuth on a server with accounts, service tokens on a hold.
#[async_trait]
pub trait XrpcAuth: Send + Sync + 'static {
    /// Establishes who makes this call of `method`. Called before the body is read.
    ///
    /// # Errors
    /// [`XrpcError::auth_missing`] when the request names nobody; 400 `InvalidToken` or `ExpiredToken` when what it
    /// shows is not good.
    async fn authenticate(&self, method: &Nsid, request: &Parts) -> Result<Arc<dyn Caller>, XrpcError>;
}

/// Somebody who is known, and what they may do.
pub trait Caller: Send + Sync {
    /// Whether a commit may be made in `repo` at all. Called first, once for each request that writes.
    fn may_commit(&self, repo: &Did) -> Result<(), XrpcError>;

    /// Whether a record of `repo` may be written in this way. Called for each write, after
    /// [`Caller::may_commit`] of the same repo.
    fn may_write(&self, repo: &Did, collection: &Nsid, action: WriteAction) -> Result<(), XrpcError>;

    /// Whether a record may be put: which of creating and updating it will be is not known before it happens.
    fn may_put(&self, repo: &Did, collection: &Nsid) -> Result<(), XrpcError> {
        self.may_write(repo, collection, WriteAction::Create)?;
        self.may_write(repo, collection, WriteAction::Update)
    }

    /// Whether a blob of this media type may be uploaded, and to which repo it then belongs.
    fn may_upload(&self, mime_type: &str) -> Result<Did, XrpcError>;
}

/// Knows nobody: for a server that is only read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnly;

#[async_trait]
impl XrpcAuth for ReadOnly {
    async fn authenticate(&self, _method: &Nsid, _request: &Parts) -> Result<Arc<dyn Caller>, XrpcError> {
        Err(XrpcError::auth_missing())
    }
}

/// The token of an `Authorization: Bearer …` header.
///
/// # Errors
/// 401 `AuthMissing` without the header, 400 `InvalidToken` with one of another scheme.
pub fn bearer_token(request: &Parts) -> Result<&str, XrpcError> {
    let value = request.headers.get(AUTHORIZATION).ok_or_else(XrpcError::auth_missing)?;
    let text = value.to_str().map_err(|_| XrpcError::invalid_token("Token could not be verified"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(token.trim())
        }
        _ => Err(XrpcError::invalid_token("Unexpected authorization type")),
    }
}
