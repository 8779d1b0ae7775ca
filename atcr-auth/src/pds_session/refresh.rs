use std::sync::Arc;
use std::time::Duration;

use atcr_core::AUDIT;
use atcr_core::syntax::Did;
use atcr_core::xrpc::XrpcError;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::locks::Locks;
use super::pds::Pds;
use super::{SessionError, SessionStore, SessionStoreError, StoredSession};
use crate::clock::{Clock, whole_seconds};
use crate::jwt;
use crate::oauth::{OAuthClient, OAuthError};

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
    oauth: Option<OAuthClient>,
}

/// How a refresh token was redeemed.
enum Redemption {
    Renewed(Box<StoredSession>),
    /// The session is over.
    Ended(String),
    /// It is not known that it is.
    Failed(SessionError),
}

impl Refresher {
    pub(super) fn new(store: Arc<dyn SessionStore>, pds: Pds, clock: Clock) -> Self {
        Self { store, pds, clock, locks: Locks::new(), oauth: None }
    }

    /// The same, for sessions that were opened by OAuth as well.
    pub(super) fn with_oauth(self, client: OAuthClient, pds: Pds) -> Self {
        Self { oauth: Some(client), pds, ..self }
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
        let refreshing = async move { this.refresh(&did, stale.as_deref()).await };
        let refreshing = tokio::spawn(refreshing.in_current_span());
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
            // Whatever else is needed for a redemption is there before the lease runs.
            if let Some(grant) = &session.oauth {
                self.oauth_client()?.server(&grant.issuer).await?;
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
            match self.redeem(&session).await {
                Redemption::Renewed(renewed) => {
                    if self.save(&renewed, version).await? {
                        tracing::info!(target: AUDIT, event = "session_refreshed", %did);
                        return Ok(*renewed);
                    }
                    // Somebody signed in anew meanwhile; theirs is looked at.
                }
                Redemption::Ended(reason) => return self.end(did, version, &reason).await,
                Redemption::Failed(error) => {
                    self.store.release(did, version).await?;
                    return Err(error);
                }
            }
        }
    }

    async fn redeem(&self, session: &StoredSession) -> Redemption {
        if session.oauth.is_some() {
            return self.redeem_oauth(session).await;
        }
        match self.pds.refresh_session(&session.pds, &session.refresh).await {
            Ok(output) if output.did == session.did => Redemption::Renewed(Box::new(StoredSession {
                access: output.access_jwt,
                refresh: output.refresh_jwt,
                ..session.clone()
            })),
            Ok(_) => Redemption::Ended("the PDS answered with another account".to_owned()),
            Err(error) if is_refused(&error) => Redemption::Ended(error.to_string()),
            Err(error) => Redemption::Failed(error.into()),
        }
    }

    async fn redeem_oauth(&self, session: &StoredSession) -> Redemption {
        let redeem = async {
            let grant = session.oauth.as_ref().ok_or(OAuthError::NotConfigured)?;
            let client = self.oauth_client()?;
            let server = client.server(&grant.issuer).await?;
            client.refresh(&server, session, grant).await
        };
        match redeem.await {
            Ok(renewed) => Redemption::Renewed(Box::new(renewed)),
            // Only these say that the session is over; a client that is refused may be set right again.
            Err(error) if matches!(error.name(), Some("invalid_grant")) => {
                Redemption::Ended(error.to_string())
            }
            Err(error @ OAuthError::OtherAccount { .. }) => Redemption::Ended(error.to_string()),
            Err(error) => Redemption::Failed(error.into()),
        }
    }

    fn oauth_client(&self) -> Result<&OAuthClient, OAuthError> {
        self.oauth.as_ref().ok_or(OAuthError::NotConfigured)
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
        tracing::info!(target: AUDIT, event = "session_ended", %did);
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
        if let Some(grant) = &session.oauth {
            return grant.expires_at.saturating_sub(self.clock.unix()) > whole_seconds(MARGIN);
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
