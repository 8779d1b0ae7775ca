use std::time::{Duration, Instant};

use super::credentials::{Account, Kind};
use super::keyring::{self, KeyringError};
use super::registry::{DeviceCode, PATIENT, Poll, RegistryError, Verdict, printable};
use super::{HelperError, Registry, ServerName, Store, protocol};

/// How a person signs in.
#[derive(Debug)]
pub(super) enum How {
    /// In a browser, on this machine or another.
    Browser { open: bool, device_name: Option<String> },
    /// With an app password on standard input.
    AppPassword { username: String },
}

/// Signs in at a registry and keeps what that gives.
pub(super) fn login(server: &ServerName, how: How) -> Result<(), HelperError> {
    let store = Store::of_user()?;
    // To find out now that nothing can be kept is better than after the approval.
    store.update(|_| ())?;
    let registry = Registry::new(server, PATIENT)?;
    let account = match how {
        How::Browser { open, device_name } => by_browser(&registry, open, device_name)?,
        How::AppPassword { username } => by_password(&registry, &username)?,
    };
    let name = account.name.clone();
    // Its secret is known now only: the keyring has one of this name.
    let before = store.load()?.at(server).and_then(|accounts| accounts.find(&name)).cloned();
    let before = before.map(|before| keyring::fetch(server, before));
    let (account, kept) = keyring::put_away(server, account);
    store.update(|kept| kept.at_mut(server).put(account))?;
    if let Some(Ok(before)) = before
        && before.kind == Kind::Device
    {
        // The device that this machine was before is no more.
        let _ = registry.revoke(&before.secret);
    }
    println!("Signed in at {server} as {name}.");
    match kept {
        Ok(()) => println!("The secret is in your keyring."),
        Err(KeyringError::None) => {}
        Err(error) => eprintln!("The keyring {error}; the secret is in {}.", store.path().display()),
    }
    if !super::docker_config::uses_helper(server) {
        println!("To let docker and podman use it, run: docker-credential-atcr configure-docker {server}");
    }
    Ok(())
}

fn by_browser(registry: &Registry, open: bool, name: Option<String>) -> Result<Account, HelperError> {
    let name = name.unwrap_or_else(device_name);
    let code = registry.device_code(&name)?;
    let link = link(&code)?;
    eprintln!("Open this page, on this machine or any other, and approve the device:\n\n    {link}\n");
    eprintln!("It shows the code {}. Waiting; Ctrl-C ends it.", printable(&code.user_code, 32));
    if open && has_screen() {
        // Some browsers come back only when they are closed.
        std::thread::spawn(move || {
            let mut options = webbrowser::BrowserOptions::new();
            let _ = webbrowser::open_browser_with_options(
                webbrowser::Browser::Default,
                &link,
                options.with_suppress_output(true),
            );
        });
    }
    let granted = wait(registry, &code)?;
    let name = if granted.handle.is_empty() { granted.did.clone() } else { granted.handle };
    if name.is_empty() {
        return Err(HelperError::Refused("the registry does not say whose device this is now".to_owned()));
    }
    Ok(Account {
        username: basic_user(&name),
        name,
        did: Some(granted.did).filter(|did| !did.is_empty()),
        secret: granted.device_secret,
        in_keyring: false,
        kind: Kind::Device,
        checked_at: jiff::Timestamp::now().as_second(),
    })
}

/// The user name for a secret that says itself whose it is. A DID has colons, which Basic takes for the end of a name
/// (RFC 7617 section 2).
pub(super) fn basic_user(name: &str) -> String {
    if name.contains(':') { "<token>".to_owned() } else { name.to_owned() }
}

/// The page to open. It comes from the registry, so nothing but a web page is opened.
fn link(code: &DeviceCode) -> Result<String, HelperError> {
    let text = code.verification_uri_complete.as_deref().unwrap_or(&code.verification_uri);
    let url: Option<url::Url> =
        text.parse().ok().filter(|url: &url::Url| matches!(url.scheme(), "https" | "http"));
    let refused =
        || HelperError::Refused("the registry names no web page to approve the device at".to_owned());
    Ok(url.ok_or_else(refused)?.into())
}

fn wait(registry: &Registry, code: &DeviceCode) -> Result<super::registry::DeviceGrant, HelperError> {
    let deadline = Instant::now() + Duration::from_secs(code.expires_in.min(3600));
    let mut interval = Duration::from_secs(code.interval.clamp(1, 60));
    while Instant::now() < deadline {
        std::thread::sleep(interval);
        match registry.poll(&code.device_code) {
            Ok(Poll::Granted(granted)) => return Ok(granted),
            Ok(Poll::Pending) => {}
            Ok(Poll::SlowDown) => interval = (interval + Duration::from_secs(5)).min(Duration::from_secs(60)),
            // A connection that breaks once is no answer (RFC 8628 section 3.5).
            Err(RegistryError::Unreachable { .. }) => interval = (interval * 2).min(Duration::from_secs(60)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Expired.into())
}

fn by_password(registry: &Registry, username: &str) -> Result<Account, HelperError> {
    let text = protocol::input()?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(HelperError::Input("there is no password on it".to_owned()));
    }
    let name = username.trim_start_matches('@').to_owned();
    // A token of the registry is worth less to a thief than the password, so it is what is kept.
    let (username, secret) = match registry.exchange_password(&name, password)? {
        Some(token) => ("<token>".to_owned(), token),
        None => (name.clone(), password.to_owned()),
    };
    let checked_at = jiff::Timestamp::now().as_second();
    let kind = Kind::AppPassword;
    Ok(Account { name, did: None, username, secret, in_keyring: false, kind, checked_at })
}

/// Forgets accounts here and at the registry. Gives up nothing here when the registry is down.
pub(super) fn logout(server: &ServerName, account: Option<&str>, all: bool) -> Result<(), HelperError> {
    let store = Store::of_user()?;
    let removed = store.update(|kept| {
        let accounts = kept.at_mut(server);
        if all {
            accounts.active = None;
            return std::mem::take(&mut accounts.accounts);
        }
        let name = account.map(str::to_owned).or_else(|| accounts.active.clone());
        name.and_then(|name| accounts.remove(&name)).into_iter().collect()
    })?;
    if removed.is_empty() {
        let whom = account.unwrap_or("nobody");
        return Err(HelperError::Refused(match account {
            Some(_) => format!("{whom} is not signed in at {server}"),
            None => format!("nobody is signed in at {server}"),
        }));
    }
    let registry = Registry::new(server, PATIENT)?;
    for account in removed {
        println!("Signed {} out of {server}.", account.name);
        let secret = keyring::fetch(server, account.clone());
        keyring::forget(server, &account);
        if account.kind != Kind::Device {
            continue;
        }
        let revoked = match secret {
            Ok(account) => registry.revoke(&account.secret).map_err(|error| error.to_string()),
            Err(error) => Err(format!("the secret cannot be had: the keyring {error}")),
        };
        if let Err(error) = revoked {
            eprintln!("{error}; revoke the device on the registry's page of devices, {server}/auth/devices");
        }
    }
    Ok(())
}

/// Whether the registry takes an account's secret, in words.
pub(super) fn state(server: &ServerName, account: &Account) -> Verdict {
    let account = match keyring::fetch(server, account.clone()) {
        Ok(account) => account,
        Err(error) => return Verdict::Unknown(format!("the secret cannot be had: the keyring {error}")),
    };
    match Registry::new(server, super::registry::QUICK) {
        Ok(registry) => registry.check(&account),
        Err(error) => Verdict::Unknown(error.to_string()),
    }
}

/// What this machine calls itself.
fn device_name() -> String {
    let file = |path: &str| std::fs::read_to_string(path).ok();
    let name = file("/proc/sys/kernel/hostname")
        .or_else(|| file("/etc/hostname"))
        .or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.map(|name| printable(name.trim(), 64)).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "a computer".to_owned())
}

/// Whether a browser could show itself here.
fn has_screen() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(any(target_os = "macos", windows)) || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("BROWSER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_pages_are_opened() {
        let code = |uri: &str| DeviceCode {
            device_code: String::new(),
            user_code: String::new(),
            verification_uri: uri.to_owned(),
            verification_uri_complete: None,
            expires_in: 1,
            interval: 1,
        };
        assert_eq!(
            link(&code("https://registry.example/device")).unwrap(),
            "https://registry.example/device"
        );
        for bad in ["file:///etc/passwd", "javascript:alert(1)", "/device", "vscode://x", "", "-h"] {
            assert!(link(&code(bad)).is_err(), "{bad}");
        }
    }
}
