use std::time::Duration;

use http::{HeaderMap, Method, header};
use moka::future::Cache;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Es256Key, OAuthError};
use crate::clock::Clock;
use crate::jwt::{encode_bytes, random_id};

/// Nonces are good for five minutes at most; an old one costs a request more.
const REMEMBERED: Duration = Duration::from_secs(600);
/// A longer nonce is not one.
const MAX_NONCE: usize = 512;
/// Clocks that differ by less agree: an answer's time is of whole seconds, and old by its way here.
const AGREE: i64 = 5;
/// A clock that is further off says nothing about ours.
const MAX_SKEW: i64 = 24 * 60 * 60;

/// What is remembered of a server.
#[derive(Debug, Clone, Default)]
struct Origin {
    nonce: Option<String>,
    /// Seconds that its clock is ahead of this machine's.
    skew: i64,
}

/// Makes proofs that a request comes from whoever has a key (RFC 9449), each with the nonce that its server gave last,
/// and by the server's clock: servers refuse proofs whose time is not theirs. Cheap to clone; clones remember together.
#[derive(Debug, Clone)]
pub(crate) struct Dpop {
    clock: Clock,
    origins: Cache<String, Origin>,
}

impl Dpop {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, origins: Cache::builder().max_capacity(10_000).time_to_live(REMEMBERED).build() }
    }

    /// The proof for one request. The query is not part of what is proven (RFC 9449 section 4.2).
    pub(crate) async fn proof(
        &self,
        key: &Es256Key,
        method: &Method,
        url: &Url,
        access_token: Option<&str>,
    ) -> Result<String, OAuthError> {
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let Origin { nonce, skew } = self.of(url).await;
        let mut claims = json!({
            "jti": random_id().map_err(|_| OAuthError::Random)?,
            "htm": method.as_str(),
            "htu": target.as_str(),
            "iat": self.clock.unix().saturating_add(skew),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        if let Some(token) = access_token {
            claims["ath"] = encode_bytes(&Sha256::digest(token)).into();
        }
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": key.jwk() });
        key.sign(&header, &claims)
            .map_err(|_| OAuthError::Answer { server: origin(url), reason: "unprintable" })
    }

    /// Remembers what an answer says. `true` when it brought a nonce that was not known.
    pub(crate) async fn learn(&self, url: &Url, headers: &HeaderMap) -> bool {
        let before = self.of(url).await;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let nonce = text("dpop-nonce").filter(|nonce| !nonce.is_empty() && nonce.len() <= MAX_NONCE);
        let theirs = text(header::DATE.as_str())
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            .map(|date| date.timestamp().as_second());
        let skew = theirs.map_or(before.skew, |theirs| match theirs.saturating_sub(self.clock.unix()) {
            skew if (AGREE..=MAX_SKEW).contains(&skew.abs()) => skew,
            _ => 0,
        });
        let is_new = nonce.is_some() && nonce != before.nonce.as_deref();
        let after = Origin { nonce: nonce.map(str::to_owned).or(before.nonce), skew };
        self.origins.insert(origin(url), after).await;
        is_new
    }

    /// Seconds that the server's clock is ahead of this machine's; 0 when they agree or nothing is known.
    pub(crate) async fn skew(&self, url: &Url) -> i64 {
        self.of(url).await.skew
    }

    /// Whether the server has given a nonce.
    pub(crate) async fn has_nonce(&self, url: &Url) -> bool {
        self.of(url).await.nonce.is_some()
    }

    async fn of(&self, url: &Url) -> Origin {
        self.origins.get(&origin(url)).await.unwrap_or_default()
    }
}

pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{Parts, unverified_claims};
    use serde_json::Value;

    #[tokio::test]
    async fn a_proof_is_bound_to_method_url_token_nonce_and_the_clock_of_its_server() {
        let clock = Clock::manual(1_800_000_000);
        let dpop = Dpop::new(clock);
        let key = Es256Key::generate().unwrap();
        let url: Url = "https://pds.example/xrpc/a.b.c?q=1#f".parse().unwrap();
        let other: Url = "https://other.example/".parse().unwrap();
        let first = dpop.proof(&key, &Method::POST, &url, Some("token")).await.unwrap();
        let claims: Value = unverified_claims(&first).unwrap();
        assert_eq!(claims["htu"], "https://pds.example/xrpc/a.b.c");
        assert_eq!(claims["htm"], "POST");
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["ath"], encode_bytes(&Sha256::digest("token")));
        assert_eq!(claims.get("nonce"), None);
        let header: Value = serde_json::from_slice(&Parts::split(&first).unwrap().header).unwrap();
        assert_eq!(header["jwk"], key.jwk());

        let headers = |nonce: &str, date: &str| {
            HeaderMap::from_iter([
                ("dpop-nonce".parse().unwrap(), nonce.parse().unwrap()),
                (header::DATE, date.parse().unwrap()),
            ])
        };
        // A minute and a half ahead of us.
        assert!(dpop.learn(&url, &headers("n1", "Fri, 15 Jan 2027 08:01:30 GMT")).await);
        assert!(!dpop.learn(&url, &headers("n1", "Fri, 15 Jan 2027 08:01:30 GMT")).await, "the same again");
        let second = dpop.proof(&key, &Method::GET, &url, None).await.unwrap();
        let claims2: Value = unverified_claims(&second).unwrap();
        assert_eq!((&claims2["nonce"], &claims2["iat"]), (&"n1".into(), &1_800_000_090.into()));
        assert_ne!(claims["jti"], claims2["jti"]);
        assert_eq!(dpop.skew(&url).await, 90);
        // One server's nonce and clock are nothing to another.
        let elsewhere: Value =
            unverified_claims(&dpop.proof(&key, &Method::GET, &other, None).await.unwrap()).unwrap();
        assert_eq!((elsewhere.get("nonce"), &elsewhere["iat"]), (None, &1_800_000_000.into()));
        // A clock that is days off is not followed, nor is a nonce without end.
        dpop.learn(&url, &headers(&"n".repeat(513), "Fri, 22 Jan 2027 08:01:30 GMT")).await;
        let third: Value =
            unverified_claims(&dpop.proof(&key, &Method::GET, &url, None).await.unwrap()).unwrap();
        assert_eq!((&third["nonce"], &third["iat"]), (&"n1".into(), &1_800_000_000.into()));
    }
}
