//! Proofs that a request comes from whoever has a key (RFC 9449), with nonces of this server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64URL_NOPAD;
use hmac::Mac as _;
use http::{HeaderMap, Method};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::OAuthError;
use super::jwt::{Jwt, hash};
use super::mac::mac;
use crate::Clock;
use crate::accounts::AccountError;
use crate::accounts::password::random;

/// How long a nonce is handed out, in seconds. It is taken as long again before and after.
const ROTATION: i64 = 60;
/// How far the time of a proof may be from this server's, in seconds: as far as a nonce reaches.
const TOLERANCE: i64 = 3 * ROTATION;
/// Proofs remembered at once, to know a replayed one.
const MAX_SEEN: usize = 100_000;

/// Who made a request: the thumbprint of their key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) jkt: String,
}

#[derive(Debug)]
struct State {
    secret: [u8; 32],
    /// Proofs by their hash, with the second at which they cannot be used any more.
    seen: HashMap<[u8; 32], i64>,
}

/// Makes nonces and checks proofs. All of it is forgotten with the process: another one takes no nonce of this one,
/// and so no proof.
#[derive(Debug)]
pub(super) struct Dpop {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Deserialize)]
struct Claims {
    jti: Option<String>,
    htm: Option<String>,
    htu: Option<String>,
    iat: Option<i64>,
    nonce: Option<String>,
    ath: Option<String>,
}

impl Dpop {
    pub(super) fn new(clock: Clock) -> Result<Self, AccountError> {
        Ok(Self { clock, state: Mutex::new(State { secret: random()?, seen: HashMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nonce for the next proof; it works for at least one rotation more.
    pub(super) fn nonce(&self) -> String {
        let turn = self.clock.now().as_second() / ROTATION;
        nonce(&self.state().secret, turn + 1)
    }

    /// Checks the proof of a request for `url`, and that it was made for `access_token` when there is one. `None`
    /// when the request carries no proof.
    pub(super) fn check(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        access_token: Option<&str>,
    ) -> Result<Option<Proof>, OAuthError> {
        let mut values = headers.get_all("dpop").into_iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(OAuthError::invalid_proof("DPoP header must contain a single proof"));
        }
        let failed = |what: &dyn std::fmt::Display| {
            OAuthError::invalid_proof(format!("Failed to verify DPoP proof: {what}"))
        };
        let text = value.to_str().map_err(|_| failed(&"Invalid Compact JWS"))?;
        let jwt = Jwt::split(text).map_err(|error| failed(&error))?;
        if jwt.header.typ.as_deref() != Some("dpop+jwt") {
            return Err(failed(&"unexpected \"typ\" JWT header value"));
        }
        let Some(key) = &jwt.header.jwk else {
            return Err(failed(&"\"jwk\" (JSON Web Key) Header Parameter must be a JSON object"));
        };
        let claims: Claims = jwt.verify(key).map_err(|error| failed(&error))?;
        let now = self.clock.now().as_second();
        let made = claims.iat.ok_or_else(|| failed(&"missing required \"iat\" claim"))?;
        if made.abs_diff(now) > TOLERANCE.unsigned_abs() {
            return Err(failed(&"\"iat\" claim timestamp check failed"));
        }
        let id = claims.jti.filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| OAuthError::invalid_proof("DPoP \"jti\" missing"))?;
        if claims.htm.as_deref() != Some(method.as_str()) {
            return Err(OAuthError::invalid_proof("DPoP \"htm\" mismatch"));
        }
        if !claims.htu.is_some_and(|htu| same_resource(&htu, url)) {
            return Err(OAuthError::invalid_proof("DPoP \"htu\" mismatch"));
        }
        let given = claims
            .nonce
            .ok_or_else(|| OAuthError::use_nonce("Authorization server requires nonce in DPoP proof"))?;
        let jkt = key.thumbprint();
        let mut state = self.state();
        let turn = now / ROTATION;
        if !(turn - 1..=turn + 1).any(|turn| nonce(&state.secret, turn) == given) {
            return Err(OAuthError::use_nonce("DPoP \"nonce\" mismatch"));
        }
        match (access_token, claims.ath) {
            (Some(token), ath) if ath.as_deref() != Some(&hash(token)) => {
                return Err(OAuthError::invalid_proof("DPoP \"ath\" mismatch"));
            }
            (None, Some(_)) => return Err(OAuthError::invalid_proof("DPoP \"ath\" claim not allowed")),
            _ => {}
        }
        let digest = Sha256::new().chain_update(&jkt).chain_update([0]).chain_update(&id).finalize();
        state.use_once(digest.into(), now)?;
        Ok(Some(Proof { jkt }))
    }
}

impl State {
    /// Remembers a proof, as long as it could be used again.
    fn use_once(&mut self, digest: [u8; 32], now: i64) -> Result<(), OAuthError> {
        if self.seen.len() >= MAX_SEEN {
            self.seen.retain(|_, until| *until > now);
            if self.seen.len() >= MAX_SEEN {
                // Instead of forgetting proofs that still work, no proof of before works any more.
                self.secret = random()?;
                self.seen.clear();
                return Err(OAuthError::use_nonce("DPoP \"nonce\" mismatch"));
            }
        }
        match self.seen.insert(digest, now + 2 * TOLERANCE) {
            None => Ok(()),
            Some(_) => Err(OAuthError::invalid_proof("DPoP proof replayed")),
        }
    }
}

fn nonce(secret: &[u8; 32], turn: i64) -> String {
    let mac = mac(secret).chain_update(turn.to_be_bytes());
    BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
}

/// Whether `htu` names the resource, without its query and fragment, after normalisation (RFC 9449 section 4.3).
fn same_resource(htu: &str, url: &Url) -> bool {
    let Ok(named) = Url::parse(htu) else { return false };
    named.username().is_empty()
        && named.password().is_none()
        && named.origin() == url.origin()
        && named.path() == url.path()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> [u8; 32] {
        Sha256::digest(n.to_be_bytes()).into()
    }

    #[test]
    fn when_no_more_proofs_can_be_remembered_none_of_before_works() {
        let mut state = State { secret: [1; 32], seen: HashMap::new() };
        for n in 0..MAX_SEEN {
            state.use_once(digest(n), 0).unwrap();
        }
        let before = nonce(&state.secret, 0);
        state.use_once(digest(MAX_SEEN), 1).unwrap_err();
        assert_ne!(nonce(&state.secret, 0), before);
        assert!(state.seen.is_empty());
    }

    #[test]
    fn proofs_that_are_over_make_room() {
        let mut state = State { secret: [1; 32], seen: HashMap::new() };
        for n in 0..MAX_SEEN {
            state.use_once(digest(n), 0).unwrap();
        }
        state.use_once(digest(0), 2 * TOLERANCE).unwrap();
        assert_eq!((state.seen.len(), state.secret), (1, [1; 32]));
        state.use_once(digest(0), 2 * TOLERANCE).unwrap_err();
    }
}
