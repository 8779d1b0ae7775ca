use std::sync::Arc;
use std::time::Duration;

use atcr_core::did_resolver::Identity;
use atcr_core::egress::{Egress, EgressError};
use atcr_core::syntax::{Did, Handle};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use url::Url;
use url::form_urlencoded::Serializer;

use super::dpop::{Dpop, origin};
use super::scope::{Ask, Granted};
use super::server_metadata::{ServerMetadata, issuer_of_resource, issuer_url};
use super::{ClientRegistration, Es256Key, OAuthError, OAuthGrant, pkce};
use crate::clock::Clock;
use crate::pds_session::StoredSession;

/// No metadata document is larger.
const MAX_METADATA: usize = 64 * 1024;
/// No answer of an endpoint is larger.
const MAX_ANSWER: usize = 64 * 1024;
/// How long metadata are believed.
const METADATA_LIFETIME: Duration = Duration::from_secs(3600);
/// The life of an access token whose answer does not give one.
const DEFAULT_LIFETIME: i64 = 300;
/// Nobody's access token lives longer.
const MAX_LIFETIME: i64 = 24 * 60 * 60;

/// The OAuth client of a registry (specification, OAuth). Cheap to clone; clones share what they remember.
#[derive(Debug, Clone)]
pub struct OAuthClient {
    egress: Egress,
    clock: Clock,
    dpop: Dpop,
    registration: Arc<ClientRegistration>,
    /// The issuer of a PDS, by the PDS's origin.
    issuers: Cache<String, String>,
    servers: Cache<String, Arc<ServerMetadata>>,
    /// How precise a server lets one ask, where it is not as precise as can be.
    asks: Cache<String, Ask>,
}

/// A sign-in under way: what has to be known when the browser comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) did: Did,
    pub(crate) handle: Option<Handle>,
    pub(crate) pds: Url,
    pub(crate) issuer: String,
    ask: Ask,
    client_id: String,
    client_key: Option<String>,
    verifier: String,
    key: Es256Key,
}

/// What a code was redeemed for.
#[derive(Debug)]
pub(crate) enum Redeemed {
    /// A session that permits what a registry needs.
    Session(Box<StoredSession>),
    /// The server does not know the permissions that were asked for: begin again, asking for this.
    AskFor(Ask),
}

#[derive(Deserialize)]
struct Pushed {
    request_uri: String,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    refresh_token: Option<String>,
    scope: Option<String>,
    expires_in: Option<i64>,
    sub: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// Who speaks to an authorization server.
#[derive(Clone, Copy)]
struct Speaker<'a> {
    issuer: &'a str,
    client_id: &'a str,
    client_key: Option<&'a str>,
    key: &'a Es256Key,
}

impl OAuthClient {
    /// A client that goes out through `egress`.
    pub fn new(registration: ClientRegistration, egress: Egress, clock: Clock) -> Self {
        let remember = |seconds| Cache::builder().max_capacity(10_000).time_to_live(seconds);
        Self {
            dpop: Dpop::new(clock.clone()),
            registration: Arc::new(registration),
            issuers: remember(METADATA_LIFETIME).build(),
            servers: Cache::builder().max_capacity(10_000).time_to_live(METADATA_LIFETIME).build(),
            asks: Cache::builder().max_capacity(10_000).time_to_live(METADATA_LIFETIME).build(),
            egress,
            clock,
        }
    }

    /// Who the registry is.
    pub fn registration(&self) -> &ClientRegistration {
        &self.registration
    }

    pub(crate) fn dpop(&self) -> &Dpop {
        &self.dpop
    }

    /// The authorization server of a PDS.
    pub(crate) async fn server_of(&self, pds: &Url) -> Result<Arc<ServerMetadata>, OAuthError> {
        let issuer = match self.issuers.get(&origin(pds)).await {
            Some(issuer) => issuer,
            None => self.issuer_of(pds).await?,
        };
        self.server(&issuer).await
    }

    async fn issuer_of(&self, pds: &Url) -> Result<String, OAuthError> {
        let url = well_known(pds, "oauth-protected-resource");
        let bytes = match self.document(&url).await {
            Err(OAuthError::Egress(EgressError::Status { status, .. }))
                if matches!(status.as_u16(), 400 | 404 | 405 | 501) =>
            {
                return Err(OAuthError::NotOffered { pds: origin(pds) });
            }
            other => other?,
        };
        let issuer = issuer_of_resource(&bytes, pds)
            .map_err(|reason| OAuthError::Metadata { url: url.to_string(), reason })?;
        self.issuers.insert(origin(pds), issuer.clone()).await;
        Ok(issuer)
    }

    /// The authorization server that calls itself `issuer`.
    pub(crate) async fn server(&self, issuer: &str) -> Result<Arc<ServerMetadata>, OAuthError> {
        if let Some(server) = self.servers.get(issuer).await {
            return Ok(server);
        }
        let unusable = |url: &str, reason| OAuthError::Metadata { url: url.to_owned(), reason };
        let base = issuer_url(issuer).map_err(|reason| unusable(issuer, reason))?;
        let url = well_known(&base, "oauth-authorization-server");
        let bytes = self.document(&url).await?;
        let server =
            ServerMetadata::parse(&bytes, issuer).map_err(|reason| unusable(url.as_str(), reason))?;
        let takes_us = if self.registration.is_loopback() { server.takes_public } else { server.takes_keys };
        if !takes_us {
            return Err(unusable(url.as_str(), "it takes no clients of this registry's kind".to_owned()));
        }
        // A browser is sent there, and must not be sent where this machine would not go.
        drop(self.egress.request(Method::GET, server.authorization_endpoint.clone())?);
        let server = Arc::new(server);
        self.servers.insert(issuer.to_owned(), Arc::clone(&server)).await;
        Ok(server)
    }

    /// A metadata document. Redirects are not followed: whoever publishes it does so at that address.
    async fn document(&self, url: &Url) -> Result<Bytes, OAuthError> {
        let exchange = async {
            let request = self.egress.request(Method::GET, url.clone())?;
            let response = self.egress.send(request.header(header::ACCEPT, "application/json")).await?;
            let status = response.status();
            self.dpop.learn(url, response.headers()).await;
            let body = self.egress.read(response, MAX_METADATA).await?;
            if status != StatusCode::OK {
                let body = body.slice(..body.len().min(512));
                return Err(EgressError::Status { url: url.to_string(), status, body }.into());
            }
            Ok(body)
        };
        self.in_time(url, exchange).await
    }

    async fn in_time<T>(
        &self,
        url: &Url,
        exchange: impl Future<Output = Result<T, OAuthError>>,
    ) -> Result<T, OAuthError> {
        tokio::time::timeout(self.egress.policy().total_timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(OAuthError::Timeout { server: origin(url) }))
    }

    /// Pushes a request for a session of this account (RFC 9126). The answer is where the browser goes, and what is to
    /// be kept until it comes back with `state`.
    pub(crate) async fn begin(
        &self,
        account: &Identity,
        state: &str,
        ask: Option<Ask>,
    ) -> Result<(Url, Pending), OAuthError> {
        let server = self.server_of(&account.pds).await?;
        let known = self.asks.get(&server.issuer).await;
        let mut ask = ask.or(known).unwrap_or(Ask::Set);
        let handle = (account.handle != Handle::invalid()).then(|| account.handle.clone());
        let hint = handle.as_ref().map_or(account.did.to_string(), ToString::to_string);
        let client_key = self.registration.key_id();
        let client_id = self.registration.client_id().to_owned();
        loop {
            let verifier = pkce::verifier()?;
            let key = Es256Key::generate().map_err(|_| OAuthError::Random)?;
            let speaker = Speaker {
                issuer: &server.issuer,
                client_id: &client_id,
                client_key: client_key.as_deref(),
                key: &key,
            };
            let redirect_uri = self.registration.redirect_uri();
            let fields = [
                ("response_type", "code"),
                ("redirect_uri", redirect_uri.as_str()),
                ("scope", &ask.scope()),
                ("state", state),
                ("code_challenge", &pkce::challenge(&verifier)),
                ("code_challenge_method", "S256"),
                ("login_hint", &hint),
            ];
            let pushed: Pushed = match self.post(&server.par_endpoint, speaker, &fields).await {
                Ok(pushed) => pushed,
                Err(error) if error.name() == Some("invalid_scope") => {
                    let Some(next) = ask.less_precise() else { return Err(error) };
                    tracing::debug!(issuer = server.issuer, %error, "asking for permissions in another way");
                    ask = next;
                    self.asks.insert(server.issuer.clone(), ask).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !self.dpop.has_nonce(&server.par_endpoint).await {
                return Err(answer(&server.par_endpoint, "it gives no nonces for DPoP"));
            }
            let mut url = server.authorization_endpoint.clone();
            url.query_pairs_mut()
                .append_pair("client_id", &client_id)
                .append_pair("request_uri", &pushed.request_uri);
            let pending = Pending {
                did: account.did.clone(),
                handle,
                pds: account.pds.clone(),
                issuer: server.issuer.clone(),
                ask,
                client_id,
                client_key,
                verifier,
                key,
            };
            return Ok((url, pending));
        }
    }

    /// Redeems the code that a browser came back with. A session that is of no use here is ended at once.
    pub(crate) async fn redeem(&self, pending: Pending, code: &str) -> Result<Redeemed, OAuthError> {
        let server = self.server(&pending.issuer).await?;
        let redirect_uri = self.registration.redirect_uri();
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri.as_str()),
            ("code_verifier", &pending.verifier),
        ];
        let speaker = Speaker {
            issuer: &pending.issuer,
            client_id: &pending.client_id,
            client_key: pending.client_key.as_deref(),
            key: &pending.key,
        };
        let tokens: Tokens = self.post(&server.token_endpoint, speaker, &fields).await?;
        let session = self.session(&server, &pending, tokens);
        let missing = match session {
            Ok(session) => {
                let grant = session.oauth.as_ref().ok_or(OAuthError::NotConfigured)?;
                let granted = Granted::parse(&grant.scope);
                let missing = granted.missing();
                if missing.is_empty() {
                    return Ok(Redeemed::Session(Box::new(session)));
                }
                let next =
                    pending.ask.less_precise().filter(|next| *next != Ask::Generic || granted.is_bare());
                self.revoke_quietly(&session).await;
                match next {
                    Some(next) => return Ok(Redeemed::AskFor(next)),
                    None => missing,
                }
            }
            Err((error, Some(session))) => {
                self.revoke_quietly(&session).await;
                return Err(error);
            }
            Err((error, None)) => return Err(error),
        };
        let first: Vec<_> = missing.iter().take(3).map(ToString::to_string).collect();
        let more = if missing.len() > 3 { format!(" and {} more", missing.len() - 3) } else { String::new() };
        Err(OAuthError::NotGranted {
            server: origin(&server.token_endpoint),
            missing: format!("{}{more}", first.join(", ")),
        })
    }

    /// The session that tokens make, checked; with an error, the session to end.
    fn session(
        &self,
        server: &ServerMetadata,
        pending: &Pending,
        tokens: Tokens,
    ) -> Result<StoredSession, (OAuthError, Option<Box<StoredSession>>)> {
        let unusable = |reason| answer(&server.token_endpoint, reason);
        let subject = tokens.sub.clone().unwrap_or_default();
        let scope = tokens.scope.clone();
        let tokens = self.checked(server, tokens).map_err(|error| (error, None))?;
        let Some(refresh) = tokens.refresh else {
            return Err((unusable("it has no refresh token"), None));
        };
        let session = StoredSession {
            did: pending.did.clone(),
            handle: pending.handle.clone(),
            pds: pending.pds.clone(),
            access: tokens.access,
            refresh,
            oauth: Some(OAuthGrant {
                issuer: pending.issuer.clone(),
                client_id: pending.client_id.clone(),
                client_key: pending.client_key.clone(),
                dpop_key: pending.key.clone(),
                scope: scope.clone().unwrap_or_default(),
                expires_at: tokens.expires_at,
            }),
        };
        if subject != pending.did.as_str() {
            let error = OAuthError::OtherAccount {
                server: origin(&server.token_endpoint),
                expected: pending.did.clone(),
                actual: cut(&subject, 128),
            };
            return Err((error, Some(Box::new(session))));
        }
        if !scope.is_some_and(|scope| scope.split(' ').any(|word| word == "atproto")) {
            return Err((unusable("its scope lacks atproto"), Some(Box::new(session))));
        }
        Ok(session)
    }

    fn checked(&self, server: &ServerMetadata, tokens: Tokens) -> Result<CheckedTokens, OAuthError> {
        if !tokens.token_type.eq_ignore_ascii_case("DPoP") {
            return Err(answer(&server.token_endpoint, "its tokens are not bound to a key (DPoP)"));
        }
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !visible(&tokens.access_token) {
            return Err(answer(&server.token_endpoint, "its access token is not one"));
        }
        let lifetime = tokens.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(0, MAX_LIFETIME);
        Ok(CheckedTokens {
            access: tokens.access_token,
            refresh: tokens.refresh_token.filter(|token| !token.is_empty()),
            expires_at: self.clock.unix().saturating_add(lifetime),
        })
    }

    /// Redeems a session's refresh token, once: whoever calls this holds the lease of the session.
    pub(crate) async fn refresh(
        &self,
        server: &ServerMetadata,
        session: &StoredSession,
        grant: &OAuthGrant,
    ) -> Result<StoredSession, OAuthError> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", &session.refresh)];
        let tokens: Tokens = self.post(&server.token_endpoint, grant.into(), &fields).await?;
        if tokens.sub.as_deref() != Some(session.did.as_str()) {
            return Err(OAuthError::OtherAccount {
                server: origin(&server.token_endpoint),
                expected: session.did.clone(),
                actual: cut(tokens.sub.as_deref().unwrap_or("nobody"), 128),
            });
        }
        let scope = tokens.scope.clone().unwrap_or_else(|| grant.scope.clone());
        let tokens = self.checked(server, tokens)?;
        Ok(StoredSession {
            access: tokens.access,
            // A server that does not rotate lets the old one live.
            refresh: tokens.refresh.unwrap_or_else(|| session.refresh.clone()),
            oauth: Some(OAuthGrant { scope, expires_at: tokens.expires_at, ..grant.clone() }),
            ..session.clone()
        })
    }

    /// Ends a session at its server (RFC 7009).
    pub(crate) async fn revoke(&self, session: &StoredSession, grant: &OAuthGrant) -> Result<(), OAuthError> {
        let server = self.server(&grant.issuer).await?;
        let Some(endpoint) = &server.revocation_endpoint else { return Ok(()) };
        let fields = [("token", session.refresh.as_str()), ("token_type_hint", "refresh_token")];
        self.exchange(endpoint, grant.into(), &fields).await.map(drop)
    }

    async fn revoke_quietly(&self, session: &StoredSession) {
        let Some(grant) = &session.oauth else { return };
        if let Err(error) = self.revoke(session, grant).await {
            tracing::info!(did = %session.did, %error, "a session of no use could not be ended at its server");
        }
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        url: &Url,
        speaker: Speaker<'_>,
        fields: &[(&str, &str)],
    ) -> Result<T, OAuthError> {
        let body = self.exchange(url, speaker, fields).await?;
        serde_json::from_slice(&body).map_err(|_| answer(url, "it is not the JSON that it must be"))
    }

    /// One exchange with an endpoint, with a second try for the nonce that the first is refused for.
    async fn exchange(
        &self,
        url: &Url,
        speaker: Speaker<'_>,
        fields: &[(&str, &str)],
    ) -> Result<Bytes, OAuthError> {
        let exchange = async {
            let mut first = true;
            loop {
                let proof = self.dpop.proof(speaker.key, &Method::POST, url, None).await?;
                let skew = self.dpop.skew(url).await;
                let Speaker { issuer, client_id, client_key, .. } = speaker;
                let identity = self.registration.proof(issuer, client_id, client_key, &self.clock, skew)?;
                let form =
                    Serializer::new(String::new()).extend_pairs(fields).extend_pairs(identity).finish();
                let request = self
                    .egress
                    .request(Method::POST, url.clone())?
                    .header("DPoP", proof)
                    .header(header::ACCEPT, "application/json")
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form);
                let response = self.egress.send(request).await?;
                let status = response.status();
                let is_new = self.dpop.learn(url, response.headers()).await;
                let body = self.egress.read(response, MAX_ANSWER).await?;
                if status.is_success() {
                    return Ok(body);
                }
                let Refusal { error, error_description } = serde_json::from_slice(&body).unwrap_or_default();
                if error == "use_dpop_nonce" && first && is_new {
                    first = false;
                    continue;
                }
                return Err(OAuthError::Refused {
                    server: origin(url),
                    status,
                    error: cut(&error, 64),
                    description: cut(&error_description, 512),
                    skew: self.dpop.skew(url).await,
                });
            }
        };
        self.in_time(url, exchange).await
    }
}

struct CheckedTokens {
    access: String,
    refresh: Option<String>,
    expires_at: i64,
}

impl<'a> From<&'a OAuthGrant> for Speaker<'a> {
    fn from(grant: &'a OAuthGrant) -> Self {
        Self {
            issuer: &grant.issuer,
            client_id: &grant.client_id,
            client_key: grant.client_key.as_deref(),
            key: &grant.dpop_key,
        }
    }
}

fn well_known(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("/.well-known/{name}"));
    url.set_query(None);
    url.set_fragment(None);
    url
}

fn answer(url: &Url, reason: &'static str) -> OAuthError {
    OAuthError::Answer { server: origin(url), reason }
}

fn cut(text: &str, longest: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}
