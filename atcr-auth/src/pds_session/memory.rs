use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use atcr_core::syntax::Did;

use super::{SessionStore, SessionStoreError, StoredSession};
use crate::browser::{BrowserStore, RowName};

/// Keeps sessions, and browsers, in memory: for tests and examples. A restart forgets them.
#[derive(Debug, Default)]
pub struct MemorySessionStore {
    rows: Mutex<Rows>,
    browsers: Mutex<HashMap<RowName, BrowserRow>>,
}

#[derive(Debug)]
struct BrowserRow {
    account: Option<Did>,
    value: Vec<u8>,
    expires: i64,
}

#[derive(Debug, Default)]
struct Rows {
    by_did: HashMap<Did, Row>,
    last_version: i64,
}

#[derive(Debug)]
struct Row {
    session: StoredSession,
    version: i64,
    leased_until: i64,
}

impl Rows {
    fn insert(&mut self, session: &StoredSession) {
        self.last_version += 1;
        let row = Row { session: session.clone(), version: self.last_version, leased_until: 0 };
        self.by_did.insert(session.did.clone(), row);
    }

    fn current(&mut self, did: &Did, version: i64) -> Option<&mut Row> {
        self.by_did.get_mut(did).filter(|row| row.version == version)
    }
}

impl MemorySessionStore {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn browsers(&self) -> MutexGuard<'_, HashMap<RowName, BrowserRow>> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionStore for MemorySessionStore {
    async fn get(&self, did: &Did) -> Result<Option<(StoredSession, i64)>, SessionStoreError> {
        Ok(self.rows().by_did.get(did).map(|row| (row.session.clone(), row.version)))
    }

    async fn put(&self, session: &StoredSession) -> Result<(), SessionStoreError> {
        self.rows().insert(session);
        Ok(())
    }

    async fn lease(&self, did: &Did, version: i64, now: i64, until: i64) -> Result<bool, SessionStoreError> {
        let mut rows = self.rows();
        match rows.current(did, version).filter(|row| row.leased_until <= now) {
            Some(row) => row.leased_until = until,
            None => return Ok(false),
        }
        Ok(true)
    }

    async fn release(&self, did: &Did, version: i64) -> Result<(), SessionStoreError> {
        if let Some(row) = self.rows().current(did, version) {
            row.leased_until = 0;
        }
        Ok(())
    }

    async fn replace(&self, session: &StoredSession, version: i64) -> Result<bool, SessionStoreError> {
        let mut rows = self.rows();
        let current = rows.current(&session.did, version).is_some();
        if current {
            rows.insert(session);
        }
        Ok(current)
    }

    async fn remove(&self, did: &Did, version: i64) -> Result<(), SessionStoreError> {
        let mut rows = self.rows();
        if rows.current(did, version).is_some() {
            rows.by_did.remove(did);
        }
        Ok(())
    }
}

#[async_trait]
impl BrowserStore for MemorySessionStore {
    async fn keep(
        &self,
        name: RowName,
        account: Option<&Did>,
        value: &[u8],
        now: i64,
        expires: i64,
    ) -> Result<(), SessionStoreError> {
        let mut browsers = self.browsers();
        browsers.retain(|_, row| row.expires > now);
        browsers.insert(name, BrowserRow { account: account.cloned(), value: value.to_vec(), expires });
        Ok(())
    }

    async fn look(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError> {
        Ok(self.browsers().get(&name).filter(|row| row.expires > now).map(|row| row.value.clone()))
    }

    async fn take(&self, name: RowName, now: i64) -> Result<Option<Vec<u8>>, SessionStoreError> {
        Ok(self.browsers().remove(&name).filter(|row| row.expires > now).map(|row| row.value))
    }

    async fn drop_all(&self, account: &Did) -> Result<(), SessionStoreError> {
        self.browsers().retain(|_, row| row.account.as_ref() != Some(account));
        Ok(())
    }
}
