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
        let mut found = None;
        for did in [owner.parse::<Did>().ok(), with_port(owner)].into_iter().flatten() {
            found = ui.index().account(&did).await?;
            if found.is_some() {
                break;
            }
        }
        found
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

/// A did:web with a port, of whose `%3A` an address has made a colon: it was written there as it is.
fn with_port(owner: &str) -> Option<Did> {
    let (host, port) = owner.strip_prefix("did:web:")?.split_once(':')?;
    port.parse::<u16>().ok()?;
    format!("did:web:{host}%3A{port}").parse().ok()
}

/// How an account is called on pages.
pub(super) fn called(account: &Account) -> String {
    account.handle.as_ref().map_or_else(|| account.did.to_string(), ToString::to_string)
}

/// How an account is called in names of images, which have no colon.
pub(super) fn in_image(account: &Account) -> String {
    account.handle.as_ref().map_or_else(|| account.did.to_hyphenated(), ToString::to_string)
}

/// What an account is called as a part of an address: a DID may have a percent sign of its own.
pub(super) fn segment(called: &str) -> String {
    called.replace('%', "%25")
}

/// What a stranger wrote, short enough for a message.
fn quoted(text: &str) -> String {
    format!("“{}”", text.chars().take(80).collect::<String>())
}

/// The address of a repository's page.
pub(super) fn of_repository(account: &Account, name: &RepositoryName) -> String {
    format!("/r/{}/{name}", segment(&called(account)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_an_address_has_decoded_is_encoded_again() {
        let did = |text| with_port(text).map(|did| did.to_string());
        assert_eq!(did("did:web:localhost:3000").as_deref(), Some("did:web:localhost%3A3000"));
        for other in ["did:web:localhost", "did:web:localhost:path", "did:web:a:1:2", "did:plc:abc"] {
            assert_eq!(did(other), None);
        }
        assert_eq!(segment("did:web:localhost%3A3000"), "did:web:localhost%253A3000");
        assert_eq!(segment("alice.example"), "alice.example");
    }
}
