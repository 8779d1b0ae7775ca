use std::sync::Arc;

use async_trait::async_trait;
use atcr_auth::service_auth::ServiceAuthConfig;
use atcr_auth::service_auth::{ServiceAuthError, VerifiedServiceToken};
use atcr_auth::{Clock, ServiceAuthVerifier};
use atcr_core::records::{CaptainRecord, Record as _};
use atcr_core::syntax::{Did, Nsid};
use atcr_core::{AUDIT, DidResolver};
use atcr_pds::WriteAction;
use atcr_pds::xrpc::{Caller, XrpcAuth, XrpcError};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use sqlx::SqlitePool;

use super::{Action, Roster, Standing};

/// How long a used token is remembered after its end, in seconds: longer than clocks may differ.
const KEPT: i64 = 300;

/// Learns from service tokens who calls.
#[derive(Clone)]
pub(crate) struct Tokens {
    verifier: ServiceAuthVerifier,
    roster: Roster,
    hold: Did,
    pool: SqlitePool,
    clock: Clock,
}

/// Whether a token may be shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// For methods that do no harm when they are repeated.
    Repeatable,
    /// For methods that change who may do what.
    Once,
}

impl Tokens {
    pub(crate) fn new(
        hold: Did,
        resolver: Arc<dyn DidResolver>,
        clock: Clock,
        roster: Roster,
        pool: SqlitePool,
    ) -> Self {
        let verifier =
            ServiceAuthVerifier::new(ServiceAuthConfig::hold(hold.clone()), resolver, clock.clone());
        Self { verifier, roster, hold, pool, clock }
    }

    /// Notes that a token was used, where replicas and the process after a restart look too. False when it was.
    async fn first_use(&self, token: &VerifiedServiceToken) -> Result<bool, sqlx::Error> {
        let Some(key) = token.replay_key else { return Ok(true) };
        let forgotten = sqlx::query("delete from used_tokens where expires < ?");
        forgotten.bind(self.clock.unix().saturating_sub(KEPT)).execute(&self.pool).await?;
        let used = sqlx::query("insert or ignore into used_tokens (key, expires) values (?, ?)");
        let used = used.bind(key.as_slice()).bind(token.expires_at).execute(&self.pool).await?;
        Ok(used.rows_affected() == 1)
    }

    /// The account that calls `method`.
    pub(crate) async fn caller(&self, method: &str, headers: &HeaderMap, how: Use) -> Result<Did, XrpcError> {
        let missing = || {
            let message = format!(
                "{method} needs a service token for {}: ask your PDS with com.atproto.server.getServiceAuth",
                self.hold
            );
            XrpcError::new(StatusCode::UNAUTHORIZED, "AuthRequired", message)
        };
        let header = headers.get(AUTHORIZATION).ok_or_else(missing)?.to_str().map_err(|_| missing())?;
        let (_, token) = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .ok_or_else(missing)?;
        let verified = match how {
            Use::Repeatable => self.verifier.verify(token.trim(), method).await,
            Use::Once => match self.verifier.verify_once(token.trim(), method).await {
                Ok(verified) if !self.first_use(&verified).await.map_err(XrpcError::internal)? => {
                    Err(ServiceAuthError::JwtReplayed)
                }
                verified => verified,
            },
        };
        verified.map(|token| token.issuer).map_err(|error| refusal(&error))
    }

    /// Refuses a caller that may not do this. A stranger who may enrol is enrolled by their first write.
    pub(crate) async fn allow(&self, caller: &Did, action: Action) -> Result<(), XrpcError> {
        let internal = XrpcError::internal;
        let standing = self.roster.standing(Some(caller)).await.map_err(internal)?;
        if standing.may(action, self.roster.public().await.map_err(internal)?) {
            return Ok(());
        }
        if action == Action::Write
            && standing == Standing::Stranger
            && self.roster.open_to_all().await.map_err(internal)?
        {
            let (role, permissions) = Roster::member();
            self.roster.enrol(caller, role, permissions).await.map_err(internal)?;
            return Ok(());
        }
        let who = match standing {
            Standing::Crew(_) => format!("{caller} is crew of this hold without that permission"),
            _ => format!("{caller} is not crew of this hold"),
        };
        let message = format!(
            "access denied for {permission}: {who} (required: {permission}); ask its owner {}",
            self.roster.owner(),
            permission = action.permission(),
        );
        Err(XrpcError::forbidden(message))
    }
}

fn refusal(error: &ServiceAuthError) -> XrpcError {
    let status =
        if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
    XrpcError::new(status, error.name(), error.to_string())
}

#[async_trait]
impl XrpcAuth for Tokens {
    async fn authenticate(&self, method: &Nsid, request: &Parts) -> Result<Arc<dyn Caller>, XrpcError> {
        let caller = self.caller(method.as_str(), &request.headers, Use::Once).await?;
        self.allow(&caller, Action::Administer).await?;
        let owner = caller == *self.roster.owner();
        Ok(Arc::new(Administrator { hold: self.hold.clone(), did: caller, owner }))
    }
}

/// Somebody who may write records of the hold.
struct Administrator {
    hold: Did,
    did: Did,
    owner: bool,
}

impl Caller for Administrator {
    fn may_commit(&self, repo: &Did) -> Result<(), XrpcError> {
        if *repo != self.hold {
            return Err(XrpcError::forbidden(format!("{repo} is not the repo of this hold")));
        }
        Ok(())
    }

    fn may_write(&self, _: &Did, collection: &Nsid, action: WriteAction) -> Result<(), XrpcError> {
        if *collection == CaptainRecord::collection() && !self.owner {
            return Err(XrpcError::forbidden("only the owner of the hold changes its captain record"));
        }
        // Crew is changed in this way. Whether the record is one is looked at next.
        tracing::info!(target: AUDIT, event = "record_write", did = %self.did, %collection, ?action);
        Ok(())
    }

    fn may_upload(&self, _: &str) -> Result<Did, XrpcError> {
        Ok(self.hold.clone())
    }
}
