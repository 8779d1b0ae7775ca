//! Names in addresses, and addresses of names.

use std::sync::Arc;

use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::syntax::{Did, Handle};

use super::error::PageError;
use super::ui::WebUi;
use crate::index::Account;

/// The account that a handle or a DID means.
pub(super) async fn account(ui: &WebUi, owner: &str) -> Result<Arc<Account>, PageError> {
    let found = if owner.starts_with("did:") {
        match owner.parse::<Did>() {
            Ok(did) => ui.index().account(&did).await?,
            Err(_) => None,
        }
    } else {
        match owner.parse::<Handle>() {
            Ok(handle) => ui.index().account_by_handle(&handle).await?,
            Err(_) => None,
        }
    };
    found.filter(|account| account.active).ok_or_else(|| {
        PageError::NotFound(format!(
            "Nobody called {} has pushed an image that this registry knows of.",
            quoted(owner)
        ))
    })
}

/// A repository's name without the owner.
pub(super) fn repository(name: &str) -> Result<RepositoryName, PageError> {
    name.parse().map_err(|_| PageError::NotFound(format!("There is no repository called {}.", quoted(name))))
}

pub(super) fn digest(text: &str) -> Result<Digest, PageError> {
    text.parse().map_err(|_| PageError::NotFound(format!("{} is no digest of a manifest.", quoted(text))))
}

/// How an account is called in addresses and in names of images.
pub(super) fn called(account: &Account) -> String {
    account.handle.as_ref().map_or_else(|| account.did.to_string(), ToString::to_string)
}

/// What a stranger wrote, short enough for a message.
fn quoted(text: &str) -> String {
    format!("“{}”", text.chars().take(80).collect::<String>())
}

/// The address of a repository's page.
pub(super) fn of_repository(account: &Account, name: &RepositoryName) -> String {
    format!("/r/{}/{name}", called(account))
}
