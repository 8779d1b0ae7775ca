use std::time::Duration;

use atcr_core::syntax::Did;
use moka::future::Cache;
use serde::Deserialize;
use serde_json::Value;

use super::account_sessions::AccountSessions;
use super::locks::Locks;
use super::{PdsSessions as _, SessionError};
use crate::clock::{Clock, whole_seconds};
use crate::jwt;

/// The method that gives service tokens.
const METHOD: &str = "com.atproto.server.getServiceAuth";
/// How long tokens are asked for. PDSs allow an hour to a token that names its method; this is enough for the parts
/// of a layer to share one, and little for a thief.
const LIFETIME: Duration = Duration::from_secs(300);
/// What PDSs give when they are not asked for a time.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not handed out any more when it has less than this left.
const MARGIN: Duration = Duration::from_secs(10);

type Key = (Did, Did, String);

/// The service tokens that are in use.
#[derive(Debug, Clone)]
pub(super) struct ServiceTokens {
    clock: Clock,
    tokens: Cache<Key, (String, i64)>,
    locks: Locks<Key>,
}

impl ServiceTokens {
    pub(super) fn new(clock: Clock) -> Self {
        let tokens = Cache::builder()
            .max_capacity(20_000)
            .time_to_live(LIFETIME)
            .support_invalidation_closures()
            .build();
        Self { clock, tokens, locks: Locks::new() }
    }

    pub(super) async fn get(
        &self,
        sessions: &AccountSessions,
        did: &Did,
        audience: &Did,
        method: &str,
    ) -> Result<String, SessionError> {
        let key = (did.clone(), audience.clone(), method.to_owned());
        if let Some(token) = self.cached(&key).await {
            return Ok(token);
        }
        let _one_at_a_time = self.locks.lock(&key).await;
        if let Some(token) = self.cached(&key).await {
            return Ok(token);
        }
        let (token, expires_at) = self.ask(sessions, did, audience, method).await?;
        self.tokens.insert(key, (token.clone(), expires_at)).await;
        Ok(token)
    }

    /// Forgets the tokens of an account.
    pub(super) fn forget(&self, did: &Did) {
        let did = did.clone();
        let forgotten = self.tokens.invalidate_entries_if(move |(owner, ..), _| *owner == did);
        debug_assert!(forgotten.is_ok(), "the cache was built for this");
    }

    async fn cached(&self, key: &Key) -> Option<String> {
        let (token, expires_at) = self.tokens.get(key).await?;
        (expires_at.saturating_sub(self.clock.unix()) > whole_seconds(MARGIN)).then_some(token)
    }

    async fn ask(
        &self,
        sessions: &AccountSessions,
        did: &Did,
        audience: &Did,
        method: &str,
    ) -> Result<(String, i64), SessionError> {
        #[derive(Deserialize)]
        struct Claims {
            exp: i64,
        }
        let asked = self.clock.unix();
        let exp = asked.saturating_add(whole_seconds(LIFETIME)).to_string();
        let params = [("aud", audience.as_str()), ("lxm", method), ("exp", &exp)];
        let output = match sessions.query(did, METHOD, &params).await {
            // A PDS that allows less, or whose clock differs by more than an hour, may choose the time itself.
            Err(error) if error.xrpc().is_some_and(|e| e.name() == Some("BadExpiration")) => {
                sessions.query(did, METHOD, &params[..2]).await?
            }
            result => result?,
        };
        let Some(token) = output.get("token").and_then(Value::as_str) else {
            return Err(unreadable());
        };
        let default = asked.saturating_add(whole_seconds(DEFAULT_LIFETIME));
        let expires_at = jwt::unverified_claims::<Claims>(token).map_or(default, |claims| claims.exp);
        Ok((token.to_owned(), expires_at))
    }
}

fn unreadable() -> SessionError {
    atcr_core::xrpc::XrpcError::Unreadable {
        service: "the PDS".to_owned(),
        method: METHOD.to_owned(),
        source: serde::de::Error::missing_field("token"),
    }
    .into()
}
