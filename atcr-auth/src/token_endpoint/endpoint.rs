use std::net::IpAddr;
use std::sync::Arc;

use atcr_core::{AUDIT, Principal};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::{Extensions, HeaderMap, header};
use tracing::field::display;

use super::answer::{Failure, Granted};
use super::request::{Grant, TokenRequest};
use crate::device_flow::{DeviceSecret, IDENTITY_TOKEN_USER};
use crate::pds_session::{Attempts, SignIn};
use crate::peer::TrustedProxies;
use crate::registry_token::{RepositoryAccess, TokenIssuer, TokenVerifier};
use crate::repository_policy::RepositoryPolicy;

/// No form that a client sends is larger.
const MAX_FORM: usize = 64 * 1024;
/// Guesses, of whatever account, after which an address waits: many people may share one.
const GUESSES: usize = 100;

/// The token service. It grants what is asked and allowed; less than asked is not an error, and the registry tells
/// the client what is lacking.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    issuer: TokenIssuer,
    verifier: TokenVerifier,
    sign_in: Arc<dyn SignIn>,
    policy: Arc<dyn RepositoryPolicy>,
    proxies: TrustedProxies,
    guesses: Attempts<IpAddr>,
}

impl TokenEndpoint {
    /// A service that checks passwords with `sign_in` and rights with `policy`. The verifier, which shares its keys
    /// with the issuer, is for refresh tokens.
    pub fn new(
        issuer: TokenIssuer,
        verifier: TokenVerifier,
        sign_in: Arc<dyn SignIn>,
        policy: Arc<dyn RepositoryPolicy>,
    ) -> Self {
        let guesses = Attempts::new(issuer.clock().clone(), GUESSES);
        Self { issuer, verifier, sign_in, policy, proxies: TrustedProxies::default(), guesses }
    }

    /// The same, behind proxies. An address that has guessed a hundred times waits, whatever accounts it guessed at;
    /// addresses are told by [`ConnectInfo`](axum::extract::ConnectInfo), and without it none waits. Nor does one of a private
    /// network: it may be a proxy that is not among these.
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// `/auth/token` and `/auth/jwks`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/auth/token", get(by_query).post(by_form))
            .route("/auth/jwks", get(jwks))
            .layer(DefaultBodyLimit::max(MAX_FORM))
            .with_state(Arc::new(self))
    }

    /// Answers a request whose guesses are counted by `address`.
    async fn answer_to(&self, address: Option<IpAddr>, request: TokenRequest) -> Result<Granted, Failure> {
        let (way, account) = (request.grant.way(), request.grant.account());
        let answer = self.answer_guess(address, request).await;
        if let (Some(way), Err(failure)) = (way, &answer) {
            let (account, reason) = (account.as_ref().map(display), failure.reason());
            tracing::info!(target: AUDIT, event = "sign_in_failed", account, way, reason);
        }
        answer
    }

    async fn answer_guess(&self, address: Option<IpAddr>, request: TokenRequest) -> Result<Granted, Failure> {
        let (Some(address), Grant::Password { .. }) = (address, &request.grant) else {
            return self.answer(request).await;
        };
        let attempt = self.guesses.begin(&address).await.map_err(Failure::address_waits)?;
        let answer = self.answer(request).await;
        if answer.as_ref().is_err_and(Failure::is_wrong_guess) {
            attempt.counts();
        }
        answer
    }

    async fn answer(&self, request: TokenRequest) -> Result<Granted, Failure> {
        // A refresh token would outlive the device that got it.
        let device = match &request.grant {
            Grant::Password { password: secret, .. } | Grant::Refresh(secret) => {
                DeviceSecret::read(secret).is_some()
            }
            Grant::Anonymous => false,
        };
        let offline = request.offline && !device;
        let principal = self.principal(request.grant).await?;
        let mut access = Vec::with_capacity(request.asked.len());
        for RepositoryAccess { name, actions } in request.asked {
            let actions = self.policy.actions(&principal, &name, &actions).await?;
            if !actions.is_empty() {
                access.push(RepositoryAccess { name, actions });
            }
        }
        let token = self.issuer.issue(&principal, &access)?;
        let refresh = match &principal {
            Principal::Account(account) if offline => Some(self.issuer.issue_refresh(account)?),
            _ => None,
        };
        tracing::debug!(%principal, client = request.client, repositories = access.len(), "issued a token");
        Ok(Granted { token, refresh, access })
    }

    async fn principal(&self, grant: Grant) -> Result<Principal, Failure> {
        match grant {
            Grant::Anonymous => Ok(Principal::Anonymous),
            Grant::Password { username, password } => {
                Ok(Principal::Account(self.sign_in.sign_in(&username, &password).await?))
            }
            Grant::Refresh(secret) if DeviceSecret::read(&secret).is_some() => {
                Ok(Principal::Account(self.sign_in.sign_in(IDENTITY_TOKEN_USER, &secret).await?))
            }
            Grant::Refresh(token) => {
                let holder = self.verifier.verify_refresh(&token).map_err(|error| {
                    Failure::unauthorized(format!("the refresh token is refused: {error}"))
                })?;
                match self.sign_in.signed_in(&holder.did).await? {
                    Some(account) => Ok(Principal::Account(account)),
                    None => Err(Failure::unauthorized(
                        "the session at your PDS has ended; sign in again with docker login",
                    )),
                }
            }
        }
    }
}

type Endpoint = State<Arc<TokenEndpoint>>;

async fn by_query(
    State(endpoint): Endpoint,
    extensions: Extensions,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Granted, Failure> {
    let request = TokenRequest::from_query(&headers, query.as_deref().unwrap_or_default())?;
    endpoint.answer_to(endpoint.proxies.counted(&extensions, &headers), request).await
}

async fn by_form(
    State(endpoint): Endpoint,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Granted, Failure> {
    let request = TokenRequest::from_form(&body)?;
    endpoint.answer_to(endpoint.proxies.counted(&extensions, &headers), request).await
}

async fn jwks(State(endpoint): Endpoint) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(endpoint.issuer.keys().jwks()))
}
