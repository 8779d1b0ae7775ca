use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atcr_core::did_resolver::{Identity, IdentityResolver, ResolveError};
use atcr_core::egress::Egress;
use atcr_core::syntax::{AtIdentifier, Did, Handle};
use atcr_core::xrpc::XrpcError;
use atcr_core::{AUDIT, Account, Proof};
use bytes::Bytes;
use serde_json::Value;

use super::attempts::{Accepted, Attempts, Fingerprint};
use super::locks::Locks;
use super::pds::{Call, Pds, Refusal};
use super::refresh::Refresher;
use super::service_tokens::ServiceTokens;
use super::{PdsSessions, SessionError, SessionStore, SessionStoreError, SignIn, SignInError, StoredSession};
use crate::clock::Clock;
use crate::oauth::{Ask, OAuthClient, OAuthError, Pending, Redeemed};

/// What happens when somebody has signed in, whichever way.
#[async_trait]
pub trait OnSignIn: Debug + Send + Sync + 'static {
    /// Called in the background, for a minute at most: nobody waits for it, and its failures are its own to report.
    async fn signed_in(&self, sessions: &dyn PdsSessions, account: &Account);
}

/// So many wrong passwords for an account within five minutes, and its PDS is not asked for a while.
const WRONG_PASSWORDS: usize = 10;
/// How long [`OnSignIn::signed_in`] may take.
const WELCOME: Duration = Duration::from_secs(60);

/// Sessions that people open by OAuth, or with an app password (`com.atproto.server.createSession`). An account has
/// one, the last. Cheap to clone; clones share what they remember.
#[derive(Debug, Clone)]
pub struct AccountSessions {
    identities: IdentityResolver,
    store: Arc<dyn SessionStore>,
    pds: Pds,
    refresher: Refresher,
    service_tokens: ServiceTokens,
    attempts: Attempts<Did>,
    accepted: Accepted,
    signing_in: Locks<Fingerprint>,
    oauth: Option<OAuthClient>,
    on_sign_in: Option<Arc<dyn OnSignIn>>,
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
            attempts: Attempts::new(clock, WRONG_PASSWORDS),
            signing_in: Locks::new(),
            oauth: None,
            on_sign_in: None,
            identities,
            store,
            pds,
            accepted,
        })
    }

    /// The same, with sessions that are opened by OAuth as well.
    #[must_use]
    pub fn with_oauth(self, client: OAuthClient) -> Self {
        let pds = self.pds.with_dpop(client.dpop().clone());
        let refresher = self.refresher.with_oauth(client.clone(), pds.clone());
        Self { oauth: Some(client), pds, refresher, ..self }
    }

    /// The same, doing this whenever a session has been opened.
    #[must_use]
    pub fn on_sign_in(self, on_sign_in: Arc<dyn OnSignIn>) -> Self {
        Self { on_sign_in: Some(on_sign_in), ..self }
    }

    pub(crate) fn oauth(&self) -> Option<&OAuthClient> {
        self.oauth.as_ref()
    }

    pub(crate) fn identities(&self) -> &IdentityResolver {
        &self.identities
    }

    pub(crate) fn store(&self) -> &Arc<dyn SessionStore> {
        &self.store
    }

    /// Ends an account's session here and, where it can be reached, at its PDS. Service tokens that were given out
    /// live on for their few minutes.
    pub async fn sign_out(&self, did: &Did) -> Result<(), SessionStoreError> {
        let Some((session, version)) = self.store.get(did).await? else { return Ok(()) };
        self.store.remove(did, version).await?;
        self.service_tokens.forget(did);
        self.end_at_server(&session).await;
        tracing::info!(target: AUDIT, event = "signed_out", %did);
        Ok(())
    }

    /// Tells the server of a session that was dropped here.
    async fn end_at_server(&self, session: &StoredSession) {
        let ended = match (&session.oauth, &self.oauth) {
            (Some(grant), Some(client)) => client.revoke(session, grant).await.map_err(SessionError::from),
            (Some(_), None) => Err(OAuthError::NotConfigured.into()),
            (None, _) => self.pds.delete_session(&session.pds, &session.refresh).await.map_err(Into::into),
        };
        if let Err(error) = ended {
            tracing::info!(did = %session.did, %error, "the PDS could not be told that a session has ended");
        }
    }

    /// Redeems the code of a sign-in by OAuth and keeps the session.
    pub(crate) async fn open_oauth(&self, pending: Pending, code: &str) -> Result<Opened, SessionError> {
        let client = self.oauth.as_ref().ok_or(OAuthError::NotConfigured)?;
        let session = match client.redeem(pending, code).await? {
            Redeemed::Session(session) => *session,
            Redeemed::AskFor(ask) => return Ok(Opened::AskFor(ask)),
        };
        let account =
            Account { did: session.did.clone(), handle: session.handle.clone(), proof: Proof::OAuth };
        self.keep(session).await?;
        tracing::info!(target: AUDIT, event = "signed_in", did = %account.did, way = "oauth");
        self.welcome(&account);
        Ok(Opened::Account(account))
    }

    /// Keeps a new session. The one in whose place it comes is ended at its server in the background.
    async fn keep(&self, session: StoredSession) -> Result<(), SessionStoreError> {
        let before = self.store.get(&session.did).await?;
        self.store.put(&session).await?;
        self.service_tokens.forget(&session.did);
        // The sessions of one app password are ended with it, by its owner: other programs may use it too.
        if let Some((before, _)) = before.filter(|(before, _)| before.oauth.is_some()) {
            let this = self.clone();
            tokio::spawn(async move { this.end_at_server(&before).await });
        }
        Ok(())
    }

    fn welcome(&self, account: &Account) {
        let Some(on_sign_in) = self.on_sign_in.clone() else { return };
        let (this, account) = (self.clone(), account.clone());
        tokio::spawn(async move {
            let welcome = on_sign_in.signed_in(&this, &account);
            if tokio::time::timeout(WELCOME, welcome).await.is_err() {
                tracing::info!(did = %account.did, "what follows a sign-in took too long and was left");
            }
        });
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
        match self.pds.call(&session, &call).await {
            Err(error) if error.xrpc().is_some_and(is_stale) => {
                let session = self.session(did, Some(&session.access)).await?;
                self.pds.call(&session, &call).await
            }
            result => result,
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
                    attempt.counts();
                }
                return Err(error);
            }
        };
        if output.did != identity.did {
            return Err(SignInError::OtherAccount { pds, expected: identity.did, actual: output.did });
        }
        let account = account(&identity);
        self.keep(StoredSession::with_password(
            identity.did,
            account.handle.clone(),
            identity.pds,
            output.access_jwt,
            output.refresh_jwt,
        ))
        .await?;
        self.welcome(&account);
        Ok(account)
    }
}

#[async_trait]
impl SignIn for AccountSessions {
    async fn sign_in(&self, identifier: &str, password: &str) -> Result<Account, SignInError> {
        let identifier = parse_identifier(identifier)?;
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
                tracing::info!(target: AUDIT, event = "signed_in", did = %account.did, way = "app_password");
                Ok(account)
            }
            Err(error) => {
                tracing::info!(%identifier, %error, "a sign-in failed");
                Err(error)
            }
        }
    }

    async fn signed_in(&self, did: &Did) -> Result<Option<Account>, SignInError> {
        let Some((session, _)) = self.store.get(did).await? else { return Ok(None) };
        if session.oauth.as_ref().is_some_and(|grant| !grant.is_enough()) {
            tracing::info!(%did, "this registry asks for more than the session permits; its owner signs in again");
            return Ok(None);
        }
        let proof = if session.oauth.is_some() { Proof::OAuth } else { Proof::AppPassword };
        // The handle may have gone to somebody else since the session was opened, so it is looked up again.
        match self.identities.resolve(&AtIdentifier::Did(did.clone())).await {
            Ok(identity) => Ok(Some(Account { proof, ..account(&identity) })),
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
pub(crate) fn parse_identifier(typed: &str) -> Result<AtIdentifier, SignInError> {
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

/// What a code has opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A session.
    Account(Account),
    /// Nothing: the sign-in has to begin again, asking for this.
    AskFor(Ask),
}

/// Whether a refusal means that the access token is no good any more.
fn is_stale(error: &XrpcError) -> bool {
    // A proof that is refused says nothing about the token.
    let refused = error.status().is_some_and(|status| status.as_u16() == 401)
        && !matches!(error.name(), Some("invalid_dpop_proof" | "use_dpop_nonce"));
    refused || matches!(error.name(), Some("ExpiredToken" | "InvalidToken"))
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
