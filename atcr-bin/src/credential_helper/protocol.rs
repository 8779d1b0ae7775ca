//! Docker's protocol between a client and its helper: one command, standard input, standard output. Errors go to
//! standard output too, with exit status 1.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::json;

use super::credentials::{Account, Kind};
use super::registry::{QUICK, Verdict};
use super::watchdog::Watchdog;
use super::{HelperError, Registry, ServerName, Store, choice, keyring};

/// More than any client sends, in bytes.
pub(super) const MAX_INPUT: u64 = 64 * 1024;
/// How long a registry's word about a secret is believed, in seconds.
const BELIEVED: i64 = 600;
const SLOW: &str = "something here took too long; run `docker-credential-atcr diagnose`";

/// The commands of the protocol.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Get,
    Store,
    Erase,
    List,
}

/// Does one, and answers within 2 seconds.
pub(super) fn run(action: Action) -> ExitCode {
    let late = match action {
        Action::Get => HelperError::NotFound.to_string(),
        _ => "docker-credential-atcr took too long; try again".to_owned(),
    };
    let watchdog = Watchdog::start(late, SLOW, 1);
    let answer = match action {
        Action::Get => get(),
        Action::Store => store(),
        Action::Erase => erase(),
        Action::List => list(),
    };
    match answer {
        Ok(text) => {
            watchdog.answer(text.as_deref());
            ExitCode::SUCCESS
        }
        Err(error) => {
            watchdog.answer(Some(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

type Answer = Result<Option<String>, HelperError>;

/// Standard input, as text. At most 64 KiB.
pub(super) fn input() -> Result<String, HelperError> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|e| HelperError::Input(e.to_string()))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(HelperError::Input(format!("more than {MAX_INPUT} bytes")));
    }
    Ok(text)
}

fn get() -> Answer {
    let text = input()?;
    let asked = text.trim();
    let server = ServerName::parse(asked)?;
    let account = usable(&server).ok_or(HelperError::NotFound)?;
    let answer = json!({ "ServerURL": asked, "Username": account.username, "Secret": account.secret });
    Ok(Some(answer.to_string()))
}

/// The account to give out for a registry, if there is one that it takes. What is wrong with the others, and what to
/// do, goes to standard error.
pub(super) fn usable(server: &ServerName) -> Option<Account> {
    let hint = |text: &str| eprintln!("docker-credential-atcr: {text}");
    match choice::from_environment(server, |name| std::env::var(name).ok()) {
        Ok(Some(account)) => return taken(server, account, None),
        Ok(None) => {}
        Err(problem) => hint(problem),
    }
    let store = match Store::of_user() {
        Ok(store) => store,
        Err(error) => {
            hint(&format!("{error}"));
            return None;
        }
    };
    let kept = match store.load() {
        Ok(kept) => kept,
        Err(error) => {
            hint(&error.to_string());
            return None;
        }
    };
    let named = std::env::var("ATCR_ACCOUNT").ok();
    let accounts = kept.at(server).cloned().unwrap_or_default();
    let lines = if accounts.accounts.len() > 1 { choice::command_lines() } else { Vec::new() };
    let Some(account) = choice::choose(&accounts, server, named.as_deref(), &lines) else {
        hint(&format!(
            "nobody is signed in at {server}; to push, run: docker-credential-atcr login {server}"
        ));
        return None;
    };
    let name = &account.name;
    let account = match keyring::fetch(server, account.clone()) {
        Ok(account) => account,
        Err(error) => {
            hint(&format!(
                "the secret of {name} at {server} cannot be had: the keyring {error}; going on without; unlock it, or keep \
                 the secret in a file: ATCR_KEYRING=off docker-credential-atcr login {server}"
            ));
            return None;
        }
    };
    if !accounts.is_atcr() {
        return Some(account);
    }
    taken(server, account, Some(&store))
}

/// The account, unless its registry refuses it: a client that sends a dead secret is refused even what is public.
fn taken(server: &ServerName, account: Account, store: Option<&Store>) -> Option<Account> {
    let now = jiff::Timestamp::now().as_second();
    let age = now.saturating_sub(account.checked_at);
    if (0..BELIEVED).contains(&age) {
        return Some(account);
    }
    let verdict = match Registry::new(server, QUICK) {
        Ok(registry) => registry.check(&account),
        Err(error) => Verdict::Unknown(error.to_string()),
    };
    match verdict {
        Verdict::Taken => {
            if let Some(store) = store {
                store.note_checked(server, &account.name, now);
            }
            Some(account)
        }
        Verdict::Refused(message) => {
            let name = &account.name;
            eprintln!(
                "docker-credential-atcr: {server} does not take the credentials of {name} any more ({message}); \
                 going on without; to push, run: docker-credential-atcr login {server}"
            );
            None
        }
        // A registry that is down, or slow, will say itself what it thinks.
        Verdict::Unknown(_) => Some(account),
    }
}

/// What a command expects on standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The name of a registry: `get`, `erase`.
    Server,
    /// Credentials as JSON: `store`.
    ToStore,
    /// A request of the kubelet.
    Kubelet,
}

/// The registry that an input names, and where it answers. For tests: the commands read in the same way.
pub fn read_input(input: Input, text: &str) -> Option<(String, url::Url)> {
    let server = match input {
        Input::Server => ServerName::parse(text.trim()),
        Input::ToStore => ServerName::parse(&serde_json::from_str::<ToStore>(text).ok()?.server_url),
        Input::Kubelet => super::kubelet::server(text),
    };
    let server = server.ok()?;
    Some((server.to_string(), server.url().ok()?))
}

#[derive(Deserialize)]
struct ToStore {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(rename = "Username", default)]
    username: String,
    #[serde(rename = "Secret", default)]
    secret: String,
}

fn store() -> Answer {
    let sent: ToStore =
        serde_json::from_str(&input()?).map_err(|error| HelperError::Input(error.to_string()))?;
    let server = ServerName::parse(&sent.server_url)?;
    if sent.username.is_empty() {
        return Err(HelperError::NoUsername);
    }
    let account = Account {
        name: sent.username.clone(),
        did: None,
        username: sent.username,
        secret: sent.secret,
        in_keyring: false,
        kind: Kind::Stored,
        checked_at: jiff::Timestamp::now().as_second(),
    };
    let (account, _) = keyring::put_away(&server, account);
    Store::of_user()?.update(|kept| {
        let accounts = kept.at_mut(&server);
        accounts.server_url = Some(sent.server_url.trim().to_owned());
        accounts.put(account);
    })?;
    Ok(None)
}

/// Forgets the account in use. To forget one that is not there is no error.
fn erase() -> Answer {
    let server = ServerName::parse(&input()?)?;
    let store = Store::of_user()?;
    if store.load()?.at(&server).is_none() {
        return Ok(None);
    }
    let erased = store.update(|kept| {
        let accounts = kept.at_mut(&server);
        let active = accounts.active.clone()?;
        accounts.remove(&active)
    })?;
    let Some(account) = erased else { return Ok(None) };
    let secret = keyring::fetch(&server, account.clone());
    keyring::forget(&server, &account);
    if let (Ok(account), Kind::Device) = (secret, account.kind) {
        // A registry that is down keeps the device in its list, where its owner can revoke it.
        let _ = Registry::new(&server, QUICK).map(|registry| registry.revoke(&account.secret));
    }
    Ok(None)
}

fn list() -> Answer {
    let kept = Store::of_user()?.load()?;
    let names: BTreeMap<_, _> = kept
        .registries
        .iter()
        .filter_map(|(server, accounts)| {
            let url = accounts.server_url.as_ref().unwrap_or(server);
            Some((url, &accounts.active()?.username))
        })
        .collect();
    Ok(Some(json!(names).to_string()))
}
