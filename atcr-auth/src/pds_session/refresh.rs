use std::sync::Arc;
use std::time::Duration;

use atcr_core::syntax::Did;
use atcr_core::xrpc::XrpcError;
use serde::Deserialize;
use tokio::time::Instant;

use super::locks::Locks;
use super::pds::Pds;
use super::{SessionError, SessionStore, SessionStoreError, StoredSession};
use crate::clock::{Clock, whole_seconds};
use crate::jwt;

/// An access token is not used any more when it has less than this left.
const MARGIN: Duration = Duration::from_secs(60);
/// The right to redeem a refresh token is taken for the longest that an exchange with a PDS may take, and this: the
/// time to save the answer.
const SAVING: Duration = Duration::from_secs(15);
/// How often another process's redemption is looked for.
const POLL: Duration = Duration::from_millis(100);
/// How often saving a redeemed session is tried.
const SAVES: u32 = 5;

/// Gives sessions whose access token is good, redeeming refresh tokens where that is needed.
///
/// A redemption runs in a task of its own, so that nobody who stops waiting makes its result be lost; one at a time
/// for each account by a lock in this process and by a lease in the store among processes. Only where nobody knows
/// whether a redemption took place (the answer was lost on the way, or the process died before it was saved) is a
/// token presented again: most PDSs allow that for a while, and a refusal ends no more than giving up would.
#[derive(Debug, Clone)]
pub(super) struct Refresher {
    store: Arc<dyn SessionStore>,
    pds: Pds,
    clock: Clock,
    locks: Locks<Did>,
}

impl Refresher {
    pub(super) fn new(store: Arc<dyn SessionStore>, pds: Pds, clock: Clock) -> Self {
        Self { store, pds, clock, locks: Locks::new() }
    }

    /// The session with an access token that is neither `stale` nor about to expire.
    pub(super) async fn fresh(&self, did: &Did, stale: Option<&str>) -> Result<StoredSession, SessionError> {
        let Some((session, _)) = self.store.get(did).await? else {
            return Err(SessionError::NoSession(did.clone()));
        };
        if self.is_usable(&session, stale) {
            return Ok(session);
        }
        let (this, did, stale) = (self.clone(), did.clone(), stale.map(str::to_owned));
        let refreshing = tokio::spawn(async move { this.refresh(&did, stale.as_deref()).await });
        refreshing.await.unwrap_or_else(|e| Err(SessionStoreError::new("the task was ended", e).into()))
    }

    /// Drops a session, unless it has been replaced by another.
    pub(super) async fn forget(&self, did: &Did, session: &StoredSession) -> Result<(), SessionStoreError> {
        match self.store.get(did).await? {
            Some((current, version)) if &current == session => self.store.remove(did, version).await,
            _ => Ok(()),
        }
    }

    async fn refresh(&self, did: &Did, stale: Option<&str>) -> Result<StoredSession, SessionError> {
        let _one_at_a_time = self.locks.lock(did).await;
        let lease = self.pds.timeout().saturating_add(SAVING);
        // Measured by a clock that nobody sets: a lease that was taken in the future must not hang us.
        let patience = Instant::now() + lease.saturating_mul(2);
        loop {
            let Some((session, version)) = self.store.get(did).await? else {
                return Err(SessionError::NoSession(did.clone()));
            };
            if self.is_usable(&session, stale) {
                return Ok(session);
            }
            let now = self.clock.unix();
            if !self.store.lease(did, version, now, now.saturating_add(whole_seconds(lease))).await? {
                if Instant::now() > patience {
                    return Err(SessionStoreError::new(
                        "another process holds a session for too long",
                        "lease",
                    )
                    .into());
                }
                // Another process is at it, or has just finished.
                tokio::time::sleep(POLL).await;
                continue;
            }
            match self.pds.refresh_session(&session.pds, &session.refresh).await {
                Ok(output) if &output.did == did => {
                    let renewed =
                        StoredSession { access: output.access_jwt, refresh: output.refresh_jwt, ..session };
                    if self.save(&renewed, version).await? {
                        tracing::debug!(%did, "refreshed a session");
                        return Ok(renewed);
                    }
                    // Somebody signed in anew meanwhile; theirs is looked at.
                }
                Ok(_) => return self.end(did, version, "the PDS answered with another account").await,
                Err(error) if is_refused(&error) => {
                    return self.end(did, version, &error.to_string()).await;
                }
                Err(error) => {
                    self.store.release(did, version).await?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Saves what a refresh token was redeemed for; it cannot be had a second time.
    async fn save(&self, session: &StoredSession, version: i64) -> Result<bool, SessionStoreError> {
        let mut tries = 1;
        loop {
            match self.store.replace(session, version).await {
                Err(_) if tries < SAVES => tokio::time::sleep(POLL * tries).await,
                result => return result,
            }
            tries += 1;
        }
    }

    async fn end(&self, did: &Did, version: i64, reason: &str) -> Result<StoredSession, SessionError> {
        tracing::info!(%did, reason, "a session has ended");
        self.store.remove(did, version).await?;
        Err(SessionError::NoSession(did.clone()))
    }

    fn is_usable(&self, session: &StoredSession, stale: Option<&str>) -> bool {
        #[derive(Deserialize)]
        struct Claims {
            exp: i64,
        }
        if stale == Some(session.access.as_str()) {
            return false;
        }
        // Access tokens are opaque by contract. One that cannot be read is used until the PDS refuses it.
        match jwt::unverified_claims::<Claims>(&session.access) {
            Some(Claims { exp }) => exp.saturating_sub(self.clock.unix()) > whole_seconds(MARGIN),
            None => true,
        }
    }
}

/// Whether the PDS has decided that the session is over; a fault on the way to it decides nothing.
fn is_refused(error: &XrpcError) -> bool {
    let decided = error.status().is_some_and(|status| matches!(status.as_u16(), 400 | 401 | 403));
    decided && error.name().is_some_and(|name| !name.is_empty())
}
