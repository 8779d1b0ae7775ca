use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{HelperError, ServerName};

/// More accounts than anybody has, in bytes.
const MAX: u64 = 4 * 1024 * 1024;
/// How long a change waits for another one.
const PATIENCE: Duration = Duration::from_secs(1);
const FILE: &str = "credentials.json";

/// How an account's secret came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Approved in a browser: the registry knows this machine as a device.
    Device,
    /// `login --app-password`.
    AppPassword,
    /// A client's `docker login` gave it.
    Stored,
}

/// One account at one registry. Its `Debug` form hides the secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Account {
    /// What people call it: a handle, else whatever the client said.
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) did: Option<String>,
    /// What the client is to send: `<token>` marks an identity token.
    pub(super) username: String,
    /// Empty when it is in the keyring.
    #[serde(default)]
    pub(super) secret: String,
    /// Whether the secret is in the keyring.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) in_keyring: bool,
    pub(super) kind: Kind,
    /// When the registry last took it, in seconds since 1970.
    #[serde(default)]
    pub(super) checked_at: i64,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Account {
    /// Whether a person means this account.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let name = name.trim_start_matches('@');
        self.name.eq_ignore_ascii_case(name) || self.did.as_deref() == Some(name)
    }
}

/// The accounts at one registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the file")]
pub(super) struct Accounts {
    /// The registry as the client that stored it wrote it, for `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server_url: Option<String>,
    /// Which one is used: its name. None after `erase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) active: Option<String>,
    #[serde(default)]
    pub(super) accounts: Vec<Account>,
}

impl Accounts {
    pub(super) fn active(&self) -> Option<&Account> {
        self.find(self.active.as_deref()?)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.is_called(name))
    }

    /// Keeps an account in the place of the one with its name, and uses it from now on. Gives the one before.
    pub(super) fn put(&mut self, account: Account) -> Option<Account> {
        self.active = Some(account.name.clone());
        let before = self.remove(&account.name);
        self.active = Some(account.name.clone());
        self.accounts.push(account);
        before
    }

    /// Drops an account. None is used then, if it was the one in use.
    pub(super) fn remove(&mut self, name: &str) -> Option<Account> {
        let index = self.accounts.iter().position(|account| account.is_called(name))?;
        let removed = self.accounts.remove(index);
        if self.active.as_deref() == Some(&removed.name) {
            self.active = None;
        }
        Some(removed)
    }

    /// Whether the registry is one that this helper has signed in at, and so speaks its protocol.
    pub(super) fn is_atcr(&self) -> bool {
        self.accounts.iter().any(|account| account.kind != Kind::Stored)
    }
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Credentials {
    version: u32,
    pub(super) registries: BTreeMap<String, Accounts>,
}

impl Credentials {
    pub(super) fn at(&self, server: &ServerName) -> Option<&Accounts> {
        self.registries.get(server.as_str())
    }

    pub(super) fn at_mut(&mut self, server: &ServerName) -> &mut Accounts {
        self.registries.entry(server.as_str().to_owned()).or_default()
    }
}

/// The file of credentials, for its owner alone. It is replaced as a whole, so a reader needs no lock and a crash
/// leaves the one or the other.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// `ATCR_CREDENTIALS_DIR`, else `~/.atcr`.
    pub(super) fn of_user() -> Result<Self, HelperError> {
        let named = std::env::var_os("ATCR_CREDENTIALS_DIR").filter(|value| !value.is_empty());
        let folder = named.map(PathBuf::from).or_else(|| Some(home()?.join(".atcr")));
        Ok(Self { folder: folder.ok_or(HelperError::NoHome)? })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept; nothing when there is no file yet.
    pub(super) fn load(&self) -> Result<Credentials, HelperError> {
        let path = self.path();
        let damaged = |reason: String| HelperError::Damaged { path: path.clone(), reason };
        match std::fs::metadata(&path) {
            // Opening a pipe would wait for somebody at its other end.
            Ok(metadata) if !metadata.is_file() => return Err(damaged("it is not a file".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Credentials::default()),
            Err(error) => return Err(HelperError::file(&path, "read")(error)),
        }
        let mut text = String::new();
        let file = File::open(&path).map_err(HelperError::file(&path, "read"))?;
        file.take(MAX + 1).read_to_string(&mut text).map_err(HelperError::file(&path, "read"))?;
        if text.len() as u64 > MAX {
            return Err(damaged(format!("it is larger than {MAX} bytes")));
        }
        let credentials: Credentials =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if credentials.version > 1 {
            return Err(damaged("a newer docker-credential-atcr has written it".to_owned()));
        }
        Ok(credentials)
    }

    /// Changes what is kept. Waits a second for changes by others, and no longer.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Credentials) -> T) -> Result<T, HelperError> {
        let _lock = self.lock(PATIENCE)?;
        let mut credentials = self.load()?;
        let result = change(&mut credentials);
        credentials.version = 1;
        credentials.registries.retain(|_, accounts| !accounts.accounts.is_empty());
        let text = serde_json::to_vec_pretty(&credentials)
            .map_err(|e| HelperError::file(self.path(), "written")(e.into()))?;
        replace(&self.path(), &text, 0o600)?;
        Ok(result)
    }

    /// Notes that the registry took the secret of this account, if that can be done at once: it only saves a question next
    /// time.
    pub(super) fn note_checked(&self, server: &ServerName, name: &str, now: i64) {
        let noted = (|| {
            let _lock = self.lock(Duration::ZERO)?;
            let mut credentials = self.load()?;
            let accounts = &mut credentials.at_mut(server).accounts;
            let Some(account) = accounts.iter_mut().find(|account| account.name == name) else {
                return Ok(());
            };
            account.checked_at = now;
            let text = serde_json::to_vec_pretty(&credentials)
                .map_err(|e| HelperError::file(self.path(), "written")(e.into()))?;
            replace(&self.path(), &text, 0o600)
        })();
        // A disk that cannot be written is asked about again, and that is all.
        let _: Result<(), HelperError> = noted;
    }

    fn lock(&self, patience: Duration) -> Result<File, HelperError> {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(HelperError::file(&self.folder, "created"))?;
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(HelperError::file(&path, "created"))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(HelperError::Locked { path }),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(HelperError::file(path, "locked")(error));
                }
            }
        }
    }
}

/// Where the user's files are.
pub(super) fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home))
}

/// Replaces a file: written beside it, forced to the disk and renamed.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), HelperError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = (|| {
        let mut beside = tempfile::Builder::new()
            .prefix(".atcr-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
            .tempfile_in(folder)?;
        beside.write_all(content)?;
        beside.as_file().sync_all()?;
        beside.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    })();
    written.map_err(HelperError::file(path, "written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn account(name: &str) -> Account {
        Account {
            name: name.to_owned(),
            did: Some(format!("did:web:{name}")),
            username: name.to_owned(),
            secret: format!("secret of {name}"),
            in_keyring: false,
            kind: Kind::Device,
            checked_at: 0,
        }
    }

    fn store(folder: &Path) -> Store {
        Store { folder: folder.join("kept") }
    }

    fn server() -> ServerName {
        ServerName::parse("registry.example").unwrap()
    }

    #[test]
    fn credentials_are_kept_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.update(|kept| kept.at_mut(&server()).put(account("alice.test"))).unwrap();
        store.update(|kept| kept.at_mut(&server()).put(account("bob.test"))).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.folder()), mode(&store.path())), (0o700, 0o600));
        let kept = store.load().unwrap();
        let accounts = kept.at(&server()).unwrap();
        assert_eq!(accounts.active().unwrap().name, "bob.test");
        assert_eq!(accounts.find("did:web:alice.test").unwrap().name, "alice.test");
        assert!(!format!("{kept:?}").contains("secret of"));
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        std::thread::scope(|scope| {
            for n in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    store.update(|kept| kept.at_mut(&server()).put(account(&format!("a{n}.test")))).unwrap();
                });
            }
        });
        assert_eq!(store.load().unwrap().at(&server()).unwrap().accounts.len(), 8);
        let names: Vec<_> =
            std::fs::read_dir(store.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "nothing is left over: {names:?}");
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        std::fs::create_dir(store.folder()).unwrap();
        for text in ["", "nonsense", r#"{"version": 2, "registries": {}}"#] {
            std::fs::write(store.path(), text).unwrap();
            assert!(matches!(store.update(|_| ()), Err(HelperError::Damaged { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(store.path()).unwrap(), text);
        }
    }

    #[test]
    fn who_holds_the_lock_for_ever_makes_nobody_wait_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let _held = store.lock(Duration::ZERO).unwrap();
        assert!(matches!(store.update(|_| ()), Err(HelperError::Locked { .. })));
        store.note_checked(&server(), "x", 1);
        assert!(store.load().unwrap().registries.is_empty(), "reading needs no lock");
    }
}
