//! The keyring of a Linux desktop (freedesktop.org Secret Service API): secrets are kept there if it is there, unlocked, and
//! quick, and else in the file of credentials.
//!
//! It is never asked to be unlocked: that would put a question on the screen at every pull.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

use secret_service::EncryptionType;
use secret_service::blocking::{Collection, SecretService};

use super::{Account, ServerName};

/// How long a keyring is waited for. A client gets its answer within 2 seconds, and the registry may be asked yet.
const LIMIT: Duration = Duration::from_millis(500);
const APPLICATION: &str = "docker-credential-atcr";

/// Why a keyring is of no use. Completes the sentence "the keyring …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyringError {
    #[error("is not used here")]
    None,
    #[error("is locked")]
    Locked,
    #[error("does not have it")]
    Missing,
    #[error("does not answer in time")]
    TooSlow,
    #[error("cannot be reached: {0}")]
    Failed(String),
}

impl From<secret_service::Error> for KeyringError {
    fn from(error: secret_service::Error) -> Self {
        match error {
            secret_service::Error::Locked | secret_service::Error::Prompt => Self::Locked,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// The account as it is written to the file: without its secret, when the keyring has that.
pub(super) fn put_away(server: &ServerName, account: Account) -> (Account, Result<(), KeyringError>) {
    let (names, secret) = (Names::of(server, &account.name), account.secret.clone());
    let kept = within_limit(move |keyring| {
        let label = format!("{} at {}", names.account, names.server);
        keyring.create_item(&label, names.attributes(), secret.as_bytes(), true, "text/plain")?;
        Ok(())
    });
    match kept {
        Ok(()) => (Account { secret: String::new(), in_keyring: true, ..account }, Ok(())),
        Err(error) => (account, Err(error)),
    }
}

/// The account with its secret.
pub(super) fn fetch(server: &ServerName, account: Account) -> Result<Account, KeyringError> {
    if !account.in_keyring {
        return Ok(account);
    }
    let names = Names::of(server, &account.name);
    let secret = within_limit(move |keyring| {
        let items = keyring.search_items(names.attributes())?;
        let secret = items.first().ok_or(KeyringError::Missing)?.get_secret()?;
        String::from_utf8(secret).map_err(|_| KeyringError::Missing)
    })?;
    Ok(Account { secret, ..account })
}

/// Drops the secret of an account. One that stays behind is overwritten by the next sign-in.
pub(super) fn forget(server: &ServerName, account: &Account) {
    if !account.in_keyring {
        return;
    }
    let names = Names::of(server, &account.name);
    let _: Result<(), _> = within_limit(move |keyring| {
        keyring.search_items(names.attributes())?.iter().try_for_each(|item| Ok(item.delete()?))
    });
}

/// What a secret is found by.
struct Names {
    server: String,
    account: String,
}

impl Names {
    fn of(server: &ServerName, account: &str) -> Self {
        Self { server: server.to_string(), account: account.to_owned() }
    }

    fn attributes(&self) -> HashMap<&str, &str> {
        [("application", APPLICATION), ("server", &self.server), ("account", &self.account)].into()
    }
}

/// Does something with the keyring in a thread of its own, which is left behind when it takes too long.
fn within_limit<T: Send + 'static>(
    work: impl FnOnce(&Collection<'_>) -> Result<T, KeyringError> + Send + 'static,
) -> Result<T, KeyringError> {
    if !is_wanted(|name| std::env::var(name).ok()) {
        return Err(KeyringError::None);
    }
    let (done, result) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let of_default = || {
            let service = SecretService::connect(EncryptionType::Dh)?;
            let keyring = service.get_default_collection()?;
            keyring.ensure_unlocked()?;
            work(&keyring)
        };
        // Whoever asked may be gone by now.
        let _ = done.send(of_default());
    });
    result.recv_timeout(LIMIT).unwrap_or(Err(KeyringError::TooSlow))
}

/// Whether there is a session of a desktop whose bus could be asked, and nobody has said that it is not to be.
fn is_wanted(env: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| env(name).is_some_and(|value| !value.is_empty());
    let bus = set("DBUS_SESSION_BUS_ADDRESS")
        || env("XDG_RUNTIME_DIR").is_some_and(|folder| std::path::Path::new(&folder).join("bus").exists());
    bus && cfg!(target_os = "linux") && env("ATCR_KEYRING").as_deref() != Some("off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_is_asked_only_where_a_desktop_is() {
        let wanted = |pairs: &'static [(&str, &str)]| {
            is_wanted(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(!wanted(&[]));
        assert!(!wanted(&[("DBUS_SESSION_BUS_ADDRESS", ""), ("XDG_RUNTIME_DIR", "/nowhere")]));
        assert!(wanted(&[("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/bus")]));
        assert!(!wanted(&[("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/bus"), ("ATCR_KEYRING", "off")]));
    }
}
