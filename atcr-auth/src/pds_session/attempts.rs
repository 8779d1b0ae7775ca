use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atcr_core::Account;
use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::future::Cache;
use sha2::Sha256;

use crate::clock::{Clock, until, whole_seconds};

/// An attempt is forgotten after this time.
const WINDOW: Duration = Duration::from_secs(300);
/// How long a right password is known again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Counts attempts, by account or by address: so many within five minutes, and the next one waits until the first
/// of them is that old. An attempt counts from when it begins, so that many at once do not slip through, and is taken
/// back when it turns out not to.
#[derive(Debug, Clone)]
pub(crate) struct Attempts<K: Hash + Eq + Send + Sync + 'static> {
    clock: Clock,
    limit: usize,
    failures: Cache<K, Arc<Mutex<VecDeque<i64>>>>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Attempts<K> {
    pub(crate) fn new(clock: Clock, limit: usize) -> Self {
        let failures = Cache::builder().max_capacity(100_000).time_to_idle(WINDOW).build();
        Self { clock, limit, failures }
    }

    /// Begins an attempt; how long to wait when there were too many.
    pub(crate) async fn begin(&self, who: &K) -> Result<Attempt, Duration> {
        let failures = self.failures.get_with_by_ref(who, async { Arc::default() }).await;
        let now = self.clock.unix();
        let mut times = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let window = whole_seconds(WINDOW);
        while times.front().is_some_and(|first| first.saturating_add(window) <= now) {
            times.pop_front();
        }
        if let (Some(first), true) = (times.front(), times.len() >= self.limit) {
            return Err(until(first.saturating_add(window), now));
        }
        times.push_back(now);
        drop(times);
        Ok(Attempt { failures, at: now, counts: false })
    }
}

/// An attempt under way. Dropped without [`Attempt::counts`], it is as if it had not been.
#[derive(Debug)]
pub(crate) struct Attempt {
    failures: Arc<Mutex<VecDeque<i64>>>,
    at: i64,
    counts: bool,
}

impl Attempt {
    pub(crate) fn counts(mut self) {
        self.counts = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.counts {
            return;
        }
        let mut times = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = times.iter().position(|at| *at == self.at) {
            times.remove(index);
        }
    }
}

/// What a name and a password are remembered by: an HMAC under a key that lives as long as the process.
pub(super) type Fingerprint = [u8; 32];

/// Knows for ten minutes which passwords a PDS has accepted, without keeping them.
#[derive(Clone)]
pub(super) struct Accepted {
    clock: Clock,
    mac: Hmac<Sha256>,
    accounts: Cache<Fingerprint, (Account, i64)>,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").finish_non_exhaustive()
    }
}

impl Accepted {
    pub(super) fn new(clock: Clock) -> Result<Self, getrandom::Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        let mac = Hmac::new(&key.into());
        let accounts = Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED).build();
        Ok(Self { clock, mac, accounts })
    }

    pub(super) fn fingerprint(&self, identifier: &str, password: &str) -> Fingerprint {
        let mut mac = self.mac.clone();
        mac.update(&identifier.len().to_be_bytes());
        mac.update(identifier.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    pub(super) async fn get(&self, fingerprint: &Fingerprint) -> Option<Account> {
        let (account, at) = self.accounts.get(fingerprint).await?;
        (self.clock.unix() < at.saturating_add(whole_seconds(REMEMBERED))).then_some(account)
    }

    pub(super) async fn remember(&self, fingerprint: Fingerprint, account: &Account) {
        self.accounts.insert(fingerprint, (account.clone(), self.clock.unix())).await;
    }
}
