//! Which account is meant, where there are several.

use super::credentials::{Account, Accounts};
use super::{Kind, ServerName, login};

/// Credentials from the environment, for CI. They belong to the registry that `ATCR_REGISTRY` names and are given to
/// no other one.
pub(super) fn from_environment(
    server: &ServerName,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<Account>, &'static str> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let (token, password) = (env("ATCR_TOKEN"), env("ATCR_APP_PASSWORD"));
    if token.is_none() && password.is_none() {
        return Ok(None);
    }
    let Some(registry) = env("ATCR_REGISTRY") else {
        return Err(
            "ATCR_TOKEN and ATCR_APP_PASSWORD are not used: set ATCR_REGISTRY to the registry that they are for",
        );
    };
    if ServerName::parse(&registry).ok().as_ref() != Some(server) {
        return Ok(None);
    }
    let username = env("ATCR_USERNAME");
    let (username, secret, kind) = match (token, password, username) {
        (Some(token), _, username) => {
            let username = username.as_deref().unwrap_or("<token>");
            (login::basic_user(username), token, Kind::Device)
        }
        (None, Some(_), Some(did)) if did.contains(':') => {
            return Err("ATCR_APP_PASSWORD is not used: ATCR_USERNAME has to be a handle, not a DID");
        }
        (None, Some(password), Some(username)) => (username, password, Kind::AppPassword),
        _ => return Err("ATCR_APP_PASSWORD is not used: set ATCR_USERNAME to the handle that it is for"),
    };
    let name = username.clone();
    Ok(Some(Account { name, did: None, username, secret, in_keyring: false, kind, checked_at: 0 }))
}

/// The account to use: the one that `ATCR_ACCOUNT` names, else the one whose repository the client was called for,
/// else the one in use.
pub(super) fn choose<'a>(
    accounts: &'a Accounts,
    server: &ServerName,
    named: Option<&str>,
    command_lines: &[Vec<String>],
) -> Option<&'a Account> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return accounts.find(named);
    }
    if accounts.accounts.len() > 1 {
        let prefix = format!("{server}/");
        for word in command_lines.iter().flatten() {
            // Also `--tag=registry/alice/app`.
            let Some(at) = word.find(&prefix) else { continue };
            let owner = word[at + prefix.len()..].split('/').next().unwrap_or_default();
            if let Some(account) = accounts.find(owner) {
                return Some(account);
            }
        }
    }
    accounts.active()
}

/// The command lines of the client that called, and of the one that called it.
pub(super) fn command_lines() -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..2 {
        let Ok(raw) = std::fs::read(format!("/proc/{pid}/cmdline")) else { break };
        lines.push(raw.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect());
        // The name of a program may hold anything but its last parenthesis is the end of it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        match parent {
            Some(parent) if parent > 1 => pid = parent,
            _ => break,
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerName {
        ServerName::parse("registry.example").unwrap()
    }

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        for name in ["bob.test", "alice.test"] {
            accounts.put(Account {
                name: name.to_owned(),
                did: Some(format!("did:plc:{}", &name[..3])),
                username: name.to_owned(),
                secret: "s".to_owned(),
                in_keyring: false,
                kind: Kind::Device,
                checked_at: 0,
            });
        }
        accounts
    }

    #[test]
    fn the_repository_of_the_command_decides_between_accounts() {
        let accounts = accounts();
        let choose = |named: Option<&str>, line: &[&str]| {
            let line = line.iter().map(|word| (*word).to_owned()).collect();
            choose(&accounts, &server(), named, &[line]).map(|account| account.name.clone())
        };
        let alice = Some("alice.test".to_owned());
        let bob = Some("bob.test".to_owned());
        assert_eq!(choose(None, &[]), alice, "the last one that signed in");
        assert_eq!(choose(None, &["docker", "push", "registry.example/bob.test/app:1"]), bob);
        assert_eq!(choose(None, &["docker", "push", "registry.example/did:plc:bob/app"]), bob);
        assert_eq!(choose(None, &["docker", "build", "--tag=registry.example/bob.test/app", "."]), bob);
        assert_eq!(choose(None, &["docker", "pull", "registry.example/carol.test/app"]), alice);
        assert_eq!(choose(None, &["docker", "pull", "other.example/bob.test/app"]), alice);
        assert_eq!(choose(Some("bob.test"), &["docker", "push", "registry.example/alice.test/app"]), bob);
        assert_eq!(choose(Some("carol.test"), &[]), None, "not another one than was named");
    }

    #[test]
    fn secrets_of_the_environment_go_to_their_registry_only() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned())
        };
        let good = env(&[("ATCR_TOKEN", "t"), ("ATCR_REGISTRY", "https://registry.example")]);
        let account = from_environment(&server(), good).unwrap().unwrap();
        assert_eq!((account.username.as_str(), account.secret.as_str()), ("<token>", "t"));
        let did = env(&[
            ("ATCR_TOKEN", "t"),
            ("ATCR_REGISTRY", "registry.example"),
            ("ATCR_USERNAME", "did:plc:alice"),
        ]);
        assert_eq!(
            from_environment(&server(), did).unwrap().unwrap().username,
            "<token>",
            "a name without colons"
        );
        let other = ServerName::parse("index.docker.io").unwrap();
        assert!(from_environment(&other, good).unwrap().is_none());
        assert!(from_environment(&server(), env(&[("ATCR_TOKEN", "t")])).is_err());
        assert!(from_environment(&server(), env(&[])).unwrap().is_none());
        let password = [("ATCR_APP_PASSWORD", "p"), ("ATCR_REGISTRY", "registry.example")];
        let lookup =
            move |name: &str| password.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
        assert!(from_environment(&server(), lookup).is_err(), "a password needs a name");
    }
}
