use std::sync::Arc;
use std::time::Duration;

use atcr_core::did_resolver::{DidDocument, DidResolver, ResolveError};
use atcr_core::syntax::Did;
use atcr_core::{Account, Proof};
use moka::future::Cache;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ServiceAuthError;
use crate::clock::{Clock, whole_seconds};
use crate::jwt::Parts;

/// Whether a token must name the method it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LxmPolicy {
    /// It must name the method that is called.
    Required,
    /// A token without a method is taken for every method, as AppViews that run today send it; one with a method
    /// must name the method that is called.
    #[default]
    IfPresent,
}

/// Whether a token may be used more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replay {
    /// The second use of a token is refused, and so is a token without `jti`. For methods whose repetition does
    /// harm.
    Refuse,
    /// A token may be used again for the same method while it lives. Callers cache tokens per account, service and
    /// method, so that a layer of a thousand parts costs the PDS one signature and not a thousand; upload methods
    /// are idempotent, so a token that is overheard gives nothing by being repeated that the first use did not.
    #[default]
    Allow,
}

/// What a [`ServiceAuthVerifier`] accepts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceAuthConfig {
    /// The DID of this service.
    pub audience: Did,
    /// The fragments that `aud` may carry after the DID, without `#`.
    pub fragments: Vec<String>,
    /// Whether tokens without a method are taken.
    pub lxm: LxmPolicy,
    /// Whether tokens may be used again, unless [`ServiceAuthVerifier::verify_once`] is asked.
    pub replay: Replay,
    /// How far the clocks of issuer and verifier may differ.
    pub leeway: Duration,
    /// The longest life of a token that names its method.
    pub max_lifetime: Duration,
    /// The longest life of a token that names no method.
    pub max_lifetime_without_method: Duration,
    /// How many used tokens are remembered. Beyond that the ones used longest ago could be used again.
    pub remembered: u64,
}

impl ServiceAuthConfig {
    /// The settings of a hold: `aud` its DID with or without `#atcr_hold`, a method where there is one, 30 s of
    /// leeway, an hour of life with a method and five minutes without, 100,000 remembered tokens.
    pub fn hold(audience: Did) -> Self {
        Self {
            audience,
            fragments: vec!["atcr_hold".to_owned()],
            lxm: LxmPolicy::default(),
            replay: Replay::default(),
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(3600),
            max_lifetime_without_method: Duration::from_secs(300),
            remembered: 100_000,
        }
    }
}

/// What a service token has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedServiceToken {
    /// Who calls.
    pub issuer: Did,
    /// The account in whose matter a service calls as itself. The issuer claims it; whether to believe that depends
    /// on the issuer.
    pub subject: Option<Did>,
    /// The method it was made for, where it names one.
    pub method: Option<String>,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
    /// What tells it from every other token, where it has a `jti`: a hash of issuer, `jti` and method. A service of
    /// several processes can keep it where all of them look, so that a token is used once among them.
    pub replay_key: Option<[u8; 32]>,
}

impl VerifiedServiceToken {
    /// The issuer as a caller.
    pub fn account(&self) -> Account {
        Account { did: self.issuer.clone(), handle: None, proof: Proof::ServiceAuth }
    }
}

/// Verifies service tokens. Cheap to clone; clones share what they remember.
///
/// Every claim is checked before the issuer's identity is looked up, so that a token that cannot be good makes no
/// request. A signature that does not verify makes one forced look-up, in case the key has been rotated, at most once
/// a minute for each issuer.
#[derive(Debug, Clone)]
pub struct ServiceAuthVerifier {
    config: Arc<ServiceAuthConfig>,
    resolver: Arc<dyn DidResolver>,
    clock: Clock,
    used: Cache<[u8; 32], ()>,
    refreshed: Cache<Did, ()>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: i64,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    lxm: Option<String>,
    #[serde(default)]
    sub: Option<Did>,
    #[serde(default)]
    jti: Option<String>,
}

impl ServiceAuthVerifier {
    /// A verifier that looks issuers up with `resolver`, which should cache.
    pub fn new(config: ServiceAuthConfig, resolver: Arc<dyn DidResolver>, clock: Clock) -> Self {
        let longest = config.max_lifetime.max(config.max_lifetime_without_method);
        let used = Cache::builder()
            .max_capacity(config.remembered)
            .time_to_live(longest.saturating_add(config.leeway.saturating_mul(2)))
            .build();
        let refreshed = Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build();
        Self { config: Arc::new(config), resolver, clock, used, refreshed }
    }

    /// What is accepted here.
    pub fn config(&self) -> &ServiceAuthConfig {
        &self.config
    }

    /// Verifies a token for a call of `method` (its NSID), under the configured [`Replay`] policy.
    pub async fn verify(&self, token: &str, method: &str) -> Result<VerifiedServiceToken, ServiceAuthError> {
        self.check(token, method, self.config.replay).await
    }

    /// Verifies a token that may be used this one time only, whatever the configured policy.
    pub async fn verify_once(
        &self,
        token: &str,
        method: &str,
    ) -> Result<VerifiedServiceToken, ServiceAuthError> {
        self.check(token, method, Replay::Refuse).await
    }

    async fn check(
        &self,
        token: &str,
        method: &str,
        replay: Replay,
    ) -> Result<VerifiedServiceToken, ServiceAuthError> {
        use ServiceAuthError::BadJwt;
        let parts =
            Parts::split(token).ok_or(BadJwt("it is not three base64url parts of reasonable size"))?;
        let header: Header =
            serde_json::from_slice(&parts.header).map_err(|_| BadJwt("the header cannot be read"))?;
        check_header(&header)?;
        let claims: Claims =
            serde_json::from_slice(&parts.payload).map_err(|_| BadJwt("the claims cannot be read"))?;
        self.check_audience(&claims.aud)?;
        self.check_method(claims.lxm.as_deref(), method)?;
        self.check_times(&claims)?;
        if replay == Replay::Refuse && claims.jti.as_deref().is_none_or(str::is_empty) {
            return Err(BadJwt("it has no jti"));
        }
        let issuer = issuer(&claims.iss)?;
        self.check_signature(&issuer, &header.alg, &parts).await?;
        // Every use is remembered, so that a method with a stricter policy sees it.
        let replay_key = claims.jti.as_deref().map(|jti| replay_key(&issuer, jti, claims.lxm.as_deref()));
        if let Some(key) = replay_key {
            let seen = self.used.entry(key).or_insert(()).await;
            if replay == Replay::Refuse && !seen.is_fresh() {
                return Err(ServiceAuthError::JwtReplayed);
            }
        }
        Ok(VerifiedServiceToken {
            issuer,
            subject: claims.sub,
            method: claims.lxm,
            expires_at: claims.exp,
            replay_key,
        })
    }

    fn check_audience(&self, audience: &str) -> Result<(), ServiceAuthError> {
        let own = self.config.audience.as_str();
        let good = match audience.strip_prefix(own) {
            Some("") => true,
            Some(rest) => rest
                .strip_prefix('#')
                .is_some_and(|fragment| self.config.fragments.iter().any(|f| f == fragment)),
            None => false,
        };
        if good {
            return Ok(());
        }
        Err(ServiceAuthError::BadJwtAudience {
            actual: cut(audience),
            expected: self.config.audience.clone(),
        })
    }

    fn check_method(&self, claimed: Option<&str>, called: &str) -> Result<(), ServiceAuthError> {
        let good = match claimed {
            Some(claimed) => claimed == called,
            None => self.config.lxm == LxmPolicy::IfPresent,
        };
        if good {
            return Ok(());
        }
        let actual = claimed.map_or_else(|| "(none)".to_owned(), cut);
        Err(ServiceAuthError::BadJwtLexiconMethod { actual, expected: called.to_owned() })
    }

    fn check_times(&self, claims: &Claims) -> Result<(), ServiceAuthError> {
        let now = self.clock.unix();
        let leeway = whole_seconds(self.config.leeway);
        let past = now.saturating_sub(claims.exp);
        if past >= leeway {
            return Err(ServiceAuthError::JwtExpired { seconds: past });
        }
        let longest = if claims.lxm.is_some() {
            self.config.max_lifetime
        } else {
            self.config.max_lifetime_without_method
        };
        let limits = [
            ("exp", Some(claims.exp), whole_seconds(longest)),
            ("iat", claims.iat, 0),
            ("nbf", claims.nbf, 0),
        ];
        for (claim, value, allowed) in limits {
            let ahead = value.unwrap_or(now).saturating_sub(now);
            if ahead > allowed.saturating_add(leeway) {
                return Err(ServiceAuthError::BadJwtTime { claim, seconds: ahead });
            }
        }
        Ok(())
    }

    async fn check_signature(
        &self,
        issuer: &Did,
        algorithm: &str,
        parts: &Parts<'_>,
    ) -> Result<(), ServiceAuthError> {
        let verifies = |document: &DidDocument| {
            document.signing_key().is_ok_and(|key| {
                key.curve().jwt_algorithm() == algorithm
                    && key.verify_any_s(parts.signed.as_bytes(), &parts.signature).is_ok()
            })
        };
        if verifies(&*self.resolver.resolve(issuer).await.map_err(|e| not_resolved(issuer, e))?) {
            return Ok(());
        }
        if self.refreshed.entry_by_ref(issuer).or_insert(()).await.is_fresh() {
            let document = self.resolver.refresh(issuer).await.map_err(|e| not_resolved(issuer, e))?;
            if verifies(&document) {
                return Ok(());
            }
        }
        Err(ServiceAuthError::BadJwtSignature(issuer.clone()))
    }
}

fn check_header(header: &Header) -> Result<(), ServiceAuthError> {
    if let Some(typ) = &header.typ
        && !typ.eq_ignore_ascii_case("JWT")
    {
        return Err(ServiceAuthError::BadJwtType(cut(typ)));
    }
    if !matches!(header.alg.as_str(), "ES256" | "ES256K") {
        return Err(ServiceAuthError::BadJwt("its algorithm is neither ES256 nor ES256K"));
    }
    if header.crit.is_some() {
        return Err(ServiceAuthError::BadJwt("it has critical extensions, and none is known here"));
    }
    let key = header.kid.as_deref().and_then(|kid| kid.rsplit_once('#'));
    if header.kid.is_some() && key.is_none_or(|(_, fragment)| fragment != "atproto") {
        return Err(ServiceAuthError::BadJwt("it names a key other than #atproto"));
    }
    Ok(())
}

/// The account that issued a token. An issuer with a fragment is one service of an account with a key of its own, and
/// must not pass for the account itself.
fn issuer(text: &str) -> Result<Did, ServiceAuthError> {
    text.parse().map_err(|e: atcr_core::syntax::SyntaxError| ServiceAuthError::BadJwtIss {
        issuer: cut(text),
        reason: if text.contains('#') {
            "a service of an account, which is not the account".to_owned()
        } else {
            e.reason.to_owned()
        },
    })
}

fn not_resolved(issuer: &Did, error: ResolveError) -> ServiceAuthError {
    match error {
        ResolveError::Unavailable { .. } => ServiceAuthError::IssuerUnavailable(error),
        error => ServiceAuthError::BadJwtIss { issuer: cut(issuer.as_str()), reason: error.to_string() },
    }
}

fn replay_key(issuer: &Did, jti: &str, method: Option<&str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [issuer.as_str(), jti, method.unwrap_or_default()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}
