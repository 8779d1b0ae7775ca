use std::sync::Arc;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Argon2, PasswordHash};
use atcr_core::syntax::Did;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::AccountError;

/// The longest password, in bytes, as in the reference server.
const MAX_PASSWORD: usize = 256;

/// Hashes and checks passwords with argon2id, away from the runtime's threads and few at a time: each takes 19 MiB.
#[derive(Debug, Clone)]
pub(super) struct Passwords {
    running: Arc<Semaphore>,
    /// What a password is compared with when there is no account, so that the answer takes as long.
    decoy: Arc<str>,
}

impl Passwords {
    pub(super) fn new() -> Result<Self, AccountError> {
        Ok(Self { running: Arc::new(Semaphore::new(4)), decoy: hash("")?.into() })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let permit = self.running.clone().acquire_owned().await.map_err(failed)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(failed)?
    }

    /// A hash to be kept, with a salt of its own.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AccountError> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(AccountError::InvalidPassword);
        }
        let password = password.to_owned();
        self.run(move || hash(&password)).await
    }

    /// Whether the password belongs to the hash. Without a hash the answer is no, after the same time.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, AccountError> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let (password, known) = (password.to_owned(), hash.is_some());
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let fits = move || {
            let hash = PasswordHash::new(&hash).map_err(failed)?;
            Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        };
        Ok(self.run(fits).await? && known)
    }

    /// The hash of an app password, with a salt that depends on the account only: all the app passwords of an
    /// account are looked up with one computation. They are random, so equal salts give nothing away.
    pub(super) async fn hash_app_password(&self, did: &Did, password: &str) -> Result<String, AccountError> {
        if password.len() > MAX_PASSWORD {
            return Err(AccountError::WrongPassword);
        }
        let (salt, password) = (Sha256::digest(did.as_str()), password.to_owned());
        let compute = move || {
            let mut hash = [0; 32];
            Argon2::default().hash_password_into(password.as_bytes(), &salt, &mut hash).map_err(failed)?;
            Ok(HEXLOWER.encode(&hash))
        };
        self.run(compute).await
    }
}

fn failed(error: impl std::fmt::Display) -> AccountError {
    AccountError::Internal(format!("a password could not be hashed: {error}"))
}

fn hash(password: &str) -> Result<String, AccountError> {
    Ok(Argon2::default().hash_password(password.as_bytes()).map_err(failed)?.to_string())
}

/// A new app password: 80 random bits as `xxxx-xxxx-xxxx-xxxx`.
pub(super) fn new_app_password() -> Result<String, AccountError> {
    let mut text = BASE32_NOPAD.encode(&random::<10>()?);
    text.make_ascii_lowercase();
    Ok(format!("{}-{}-{}-{}", &text[..4], &text[4..8], &text[8..12], &text[12..]))
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], AccountError> {
    let mut bytes = [0; N];
    let failed = |error| AccountError::Internal(format!("no random numbers could be had: {error}"));
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
