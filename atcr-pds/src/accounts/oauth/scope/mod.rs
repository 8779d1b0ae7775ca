//! What access is asked for and given (specification, Permissions).

mod include;
mod permission;
mod syntax;
mod words;

use atcr_core::syntax::Nsid;
use serde::{Deserialize, Serialize};

pub(super) use include::expand;
use permission::Permission;
pub(in crate::accounts) use permission::{AccountAttribute, IdentityAttribute, RepoAction};
pub(super) use words::describe;

/// The longest scope text, in bytes, and the most scopes in it.
const MAX_SCOPE: usize = 16 * 1024;
const MAX_SCOPES: usize = 200;

/// Whether a text can be a scope at all (RFC 6749 section 3.3).
pub(super) fn is_scope_text(text: &str) -> bool {
    let is_scope = |scope: &str| {
        !scope.is_empty() && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
    };
    text.len() <= MAX_SCOPE && text.split(' ').count() <= MAX_SCOPES && text.split(' ').all(is_scope)
}

/// Scopes that are all understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(in crate::accounts) struct Scopes {
    text: String,
    permissions: Vec<Permission>,
}

impl From<String> for Scopes {
    fn from(text: String) -> Self {
        Self::understood(&text)
    }
}

impl From<Scopes> for String {
    fn from(scopes: Scopes) -> Self {
        scopes.text
    }
}

impl Scopes {
    /// Those scopes of a text that are understood, each once. The others are passed over in silence, as the
    /// reference server does: a client has to look at what it was given.
    pub(super) fn understood(text: &str) -> Self {
        let mut scopes = Self::default();
        for scope in text.split(' ') {
            let Some(permission) = Permission::parse(scope) else { continue };
            if scopes.text.split(' ').any(|known| known == scope) {
                continue;
            }
            if !scopes.text.is_empty() {
                scopes.text.push(' ');
            }
            scopes.text.push_str(scope);
            scopes.permissions.push(permission);
        }
        scopes
    }

    pub(in crate::accounts) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// Whether each of these scopes is among the `others`.
    pub(super) fn within(&self, others: &Self) -> bool {
        self.text.split(' ').all(|scope| others.text.split(' ').any(|other| other == scope))
    }

    fn has(&self, permission: &Permission) -> bool {
        self.permissions.contains(permission)
    }

    /// Whether records of a collection may be written in this way.
    pub(in crate::accounts) fn check_repo(
        &self,
        collection: &Nsid,
        action: RepoAction,
    ) -> Result<(), String> {
        let allowed = self.has(&Permission::Generic)
            || self.permissions.iter().any(|permission| permission.allows_repo(collection, action));
        if allowed {
            return Ok(());
        }
        Err(syntax::format("repo", Some(collection.as_str()), &[("action", action.as_str())]))
    }

    /// Whether a blob of a media type may be uploaded.
    pub(in crate::accounts) fn check_blob(&self, mime_type: &str) -> Result<(), String> {
        let allowed = self.has(&Permission::Generic)
            || self.permissions.iter().any(|permission| permission.allows_blob(mime_type));
        if allowed { Ok(()) } else { Err(syntax::format("blob", Some(mime_type), &[])) }
    }

    /// Whether a method (`*`: any) of a service may be called in the account's name.
    pub(in crate::accounts) fn check_rpc(&self, method: &str, audience: &str) -> Result<(), String> {
        let transition =
            if method.starts_with("chat.bsky.") { Permission::Chat } else { Permission::Generic };
        let allowed = self.has(&transition)
            || self.permissions.iter().any(|permission| permission.allows_rpc(method, audience));
        if allowed { Ok(()) } else { Err(syntax::format("rpc", Some(method), &[("aud", audience)])) }
    }

    /// Whether an attribute of the account may be read, or changed.
    pub(in crate::accounts) fn check_account(
        &self,
        attribute: AccountAttribute,
        manage: bool,
    ) -> Result<(), String> {
        let transition = attribute == AccountAttribute::Email && !manage && self.has(&Permission::Email);
        let allowed = transition
            || self.permissions.iter().any(|permission| permission.allows_account(attribute, manage));
        if allowed {
            return Ok(());
        }
        let action: &[_] = if manage { &[("action", "manage")] } else { &[] };
        Err(syntax::format("account", Some(attribute.as_str()), action))
    }

    /// Whether an attribute of the identity may be changed.
    pub(in crate::accounts) fn check_identity(&self, attribute: IdentityAttribute) -> Result<(), String> {
        if self.permissions.iter().any(|permission| permission.allows_identity(attribute)) {
            return Ok(());
        }
        Err(syntax::format("identity", Some(attribute.as_str()), &[]))
    }
}

#[cfg(test)]
mod tests;
