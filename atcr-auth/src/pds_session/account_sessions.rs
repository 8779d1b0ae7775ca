use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::did_resolver::{Identity, IdentityResolver, ResolveError};
use atcr_core::egress::Egress;
use atcr_core::syntax::{AtIdentifier, Did, Handle};
use atcr_core::xrpc::XrpcError;
use atcr_core::{Account, Proof};
use bytes::Bytes;
use serde_json::Value;

use super::attempts::{Accepted, Attempts, Fingerprint};
use super::locks::Locks;
use super::pds::{Call, Pds, Refusal};
use super::refresh::Refresher;
use super::service_tokens::ServiceTokens;
use super::{PdsSessions, SessionError, SessionStore, SessionStoreError, SignIn, SignInError, StoredSession};
use crate::clock::Clock;

/// Sessions that people open with an app password (`com.atproto.server.createSession`). Cheap to clone; clones
/// share what they remember.
#[derive(Debug, Clone)]
pub struct AccountSessions {
    identities: IdentityResolver,
    store: Arc<dyn SessionStore>,
    pds: Pds,
    refresher: Refresher,
    service_tokens: ServiceTokens,
    attempts: Attempts,
    accepted: Accepted,
    signing_in: Locks<Fingerprint>,
}

impl AccountSessions {
    /// Sessions kept in `store`. Fails when the system gives no randomness.
    pub fn new(
        identities: IdentityResolver,
        egress: Egress,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Result<Self, SessionStoreError> {
        let accepted = Accepted::new(clock.clone())
            .map_err(|e| SessionStoreError::new("there are no random numbers", e))?;
        let pds = Pds::new(egress, clock.clone());
        Ok(Self {
            refresher: Refresher::new(Arc::clone(&store), pds.clone(), clock.clone()),
            service_tokens: ServiceTokens::new(clock.clone()),
            attempts: Attempts::new(clock),
            signing_in: Locks::new(),
            identities,
            store,
            pds,
            accepted,
        })
    }

    /// Ends an account's session here and, where it can be reached, at its PDS. Service tokens that were given out
    /// live on for their few minutes.
    pub async fn sign_out(&self, did: &Did) -> Result<(), SessionStoreError> {
        let Some((session, version)) = self.store.get(did).await? else { return Ok(()) };
        self.store.remove(did, version).await?;
        if let Err(error) = self.pds.delete_session(&session.pds, &session.refresh).await {
            tracing::info!(%did, %error, "the PDS could not be told that a session has ended");
        }
        tracing::info!(%did, "signed out");
        Ok(())
    }

    /// The session of an account, with an access token that is not `stale`.
    async fn session(&self, did: &Did, stale: Option<&str>) -> Result<StoredSession, SessionError> {
        let session = self.refresher.fresh(did, stale).await?;
        match self.identities.pds(did).await {
            Ok(pds) if pds == session.pds => Ok(session),
            // The account lives elsewhere now; its tokens are of no use there.
            Ok(_) => {
                self.refresher.forget(did, &session).await?;
                Err(SessionError::NoSession(did.clone()))
            }
            Err(ResolveError::Unavailable { .. }) => Ok(session),
            Err(error) => Err(error.into()),
        }
    }

    async fn call(&self, did: &Did, call: Call<'_>) -> Result<Value, SessionError> {
        let session = self.session(did, None).await?;
        match self.pds.call(&session.pds, &session.access, &call).await {
            Err(error) if is_stale(&error) => {
                let session = self.session(did, Some(&session.access)).await?;
                Ok(self.pds.call(&session.pds, &session.access, &call).await?)
            }
            result => Ok(result?),
        }
    }

    /// The account of a remembered sign-in, if its session is still there.
    async fn remembered(&self, fingerprint: &Fingerprint) -> Result<Option<Account>, SignInError> {
        let Some(account) = self.accepted.get(fingerprint).await else { return Ok(None) };
        Ok(self.store.get(&account.did).await?.map(|_| account))
    }

    async fn open(&self, identifier: &AtIdentifier, password: &str) -> Result<Account, SignInError> {
        let name = || identifier.to_string();
        let identity = self.identities.resolve(identifier).await.map_err(|source| match source {
            ResolveError::Unavailable { .. } => {
                SignInError::IdentityUnavailable { identifier: name(), source }
            }
            source => SignInError::UnknownIdentity { identifier: name(), source },
        })?;
        let attempt = self
            .attempts
            .begin(&identity.did)
            .await
            .map_err(|retry_after| SignInError::TooManyAttempts { identifier: name(), retry_after })?;
        let pds = identity.pds.origin().ascii_serialization();
        let output = match self.pds.create_session(&identity.pds, &identity.did, password).await {
            Ok(output) => output,
            Err(refusal) => {
                let error = not_opened(identifier, pds, refusal);
                if matches!(error, SignInError::WrongPassword { .. } | SignInError::SecondFactor { .. }) {
                    attempt.failed();
                }
                return Err(error);
            }
        };
        if output.did != identity.did {
            return Err(SignInError::OtherAccount { pds, expected: identity.did, actual: output.did });
        }
        let account = account(&identity);
        self.store
            .put(&StoredSession {
                did: identity.did,
                handle: account.handle.clone(),
                pds: identity.pds,
                access: output.access_jwt,
                refresh: output.refresh_jwt,
            })
            .await?;
        Ok(account)
    }
}

#[async_trait]
impl SignIn for AccountSessions {
    async fn sign_in(&self, identifier: &str, password: &str) -> Result<Account, SignInError> {
        let identifier = parse(identifier)?;
        let fingerprint = self.accepted.fingerprint(&identifier.to_string(), password);
        if let Some(account) = self.remembered(&fingerprint).await? {
            return Ok(account);
        }
        let _one_at_a_time = self.signing_in.lock(&fingerprint).await;
        if let Some(account) = self.remembered(&fingerprint).await? {
            return Ok(account);
        }
        match self.open(&identifier, password).await {
            Ok(account) => {
                self.accepted.remember(fingerprint, &account).await;
                tracing::info!(did = %account.did, "signed in with a password");
                Ok(account)
            }
            Err(error) => {
                tracing::info!(%identifier, %error, "a sign-in failed");
                Err(error)
            }
        }
    }

    async fn signed_in(&self, did: &Did) -> Result<Option<Account>, SignInError> {
        if self.store.get(did).await?.is_none() {
            return Ok(None);
        }
        // The handle may have gone to somebody else since the session was opened, so it is looked up again.
        match self.identities.resolve(&AtIdentifier::Did(did.clone())).await {
            Ok(identity) => Ok(Some(account(&identity))),
            Err(source @ ResolveError::Unavailable { .. }) => {
                Err(SignInError::IdentityUnavailable { identifier: did.to_string(), source })
            }
            Err(source) => Err(SignInError::UnknownIdentity { identifier: did.to_string(), source }),
        }
    }
}

#[async_trait]
impl PdsSessions for AccountSessions {
    async fn query(&self, did: &Did, method: &str, params: &[(&str, &str)]) -> Result<Value, SessionError> {
        self.call(did, Call::Query { method, params }).await
    }

    async fn procedure(&self, did: &Did, method: &str, input: Value) -> Result<Value, SessionError> {
        self.call(did, Call::Procedure { method, input: &input }).await
    }

    async fn upload(
        &self,
        did: &Did,
        method: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Value, SessionError> {
        self.call(did, Call::Upload { method, content_type, body }).await
    }

    async fn service_token(&self, did: &Did, audience: &Did, method: &str) -> Result<String, SessionError> {
        self.service_tokens.get(self, did, audience, method).await
    }
}

/// Reads a user name as people type it.
fn parse(typed: &str) -> Result<AtIdentifier, SignInError> {
    let text = typed.trim();
    let text = text.strip_prefix('@').unwrap_or(text);
    let refused =
        |reason| SignInError::InvalidIdentifier { identifier: typed.chars().take(128).collect(), reason };
    if text.contains('@') {
        return Err(refused("an e-mail address does not say where the account is"));
    }
    text.parse::<AtIdentifier>().map_err(|error| refused(error.reason))
}

fn account(identity: &Identity) -> Account {
    Account {
        did: identity.did.clone(),
        handle: (identity.handle != Handle::invalid()).then(|| identity.handle.clone()),
        proof: Proof::AppPassword,
    }
}

/// Whether a refusal means that the access token is no good any more.
fn is_stale(error: &XrpcError) -> bool {
    error.status().is_some_and(|status| status.as_u16() == 401)
        || matches!(error.name(), Some("ExpiredToken" | "InvalidToken"))
}

fn not_opened(identifier: &AtIdentifier, pds: String, refusal: Refusal) -> SignInError {
    let identifier = identifier.to_string();
    let Refusal { error, retry_after } = refusal;
    if let XrpcError::Refused { status, error: name, message, .. } = &error {
        match (status.as_u16(), name.as_str()) {
            (429, _) => return SignInError::PdsRateLimited { pds, retry_after },
            (_, "AuthFactorTokenRequired") => return SignInError::SecondFactor { identifier, pds },
            (_, "AccountTakedown" | "AccountDeactivated" | "AccountSuspended") => {
                return SignInError::AccountClosed { identifier, pds, message: message.clone() };
            }
            (401, _) | (_, "AuthenticationRequired") => {
                return SignInError::WrongPassword { identifier, pds };
            }
            _ => {}
        }
    }
    SignInError::PdsUnavailable { pds, source: Arc::new(error) }
}
