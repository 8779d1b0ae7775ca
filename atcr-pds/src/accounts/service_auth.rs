use std::net::Ipv4Addr;

use atcr_core::crypto::SigningKey;
use atcr_core::syntax::{Did, DidMethod, Nsid};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::password::random;
use super::{AccountError, MAX_SERVICE_TOKEN};

/// How long a service token works when nothing else is asked for, and the most when it names no method.
const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_secs(60);

/// The claims of a service token before it is signed.
#[derive(Debug)]
pub(super) struct ServiceToken<'a> {
    pub(super) issuer: &'a Did,
    pub(super) audience: &'a str,
    pub(super) method: Option<&'a Nsid>,
    pub(super) issued: Timestamp,
    pub(super) expires: Timestamp,
}

impl ServiceToken<'_> {
    /// The token, signed as `key`'s curve does it (specification, XRPC, "Inter-Service Authentication").
    pub(super) fn sign(&self, key: &SigningKey) -> Result<String, AccountError> {
        let header = json!({"typ": "JWT", "alg": key.curve().jwt_algorithm()});
        let mut claims = json!({
            "iat": self.issued.as_second(),
            "iss": self.issuer,
            "aud": self.audience,
            "exp": self.expires.as_second(),
            "jti": HEXLOWER.encode(&random::<16>()?),
        });
        if let Some(method) = self.method {
            claims["lxm"] = json!(method);
        }
        let mut token = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(claims.to_string().as_bytes(), &mut token);
        let signature = key.sign(token.as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut token);
        Ok(token)
    }
}

/// When a token asked for with `exp` (seconds since the Unix epoch) ends.
pub(super) fn expiry(
    exp: Option<i64>,
    method: Option<&Nsid>,
    now: Timestamp,
) -> Result<Timestamp, AccountError> {
    let Some(exp) = exp else { return Ok(now + DEFAULT_LIFETIME) };
    let ahead = exp.saturating_sub(now.as_second());
    if ahead < 0 {
        return Err(AccountError::BadExpiration("expiration is in past"));
    }
    if ahead > MAX_SERVICE_TOKEN.as_secs() {
        return Err(AccountError::BadExpiration(
            "cannot request a token with an expiration more than an hour in the future",
        ));
    }
    if method.is_none() && ahead > DEFAULT_LIFETIME.as_secs() {
        return Err(AccountError::BadExpiration(
            "cannot request a method-less token with an expiration more than a minute in the future",
        ));
    }
    Timestamp::from_second(exp).map_err(|_| AccountError::BadExpiration("expiration is not a time"))
}

/// Checks the audience of a service token: a did:plc or did:web, with or without `#service`.
pub(super) fn check_audience(audience: &str) -> Result<(), AccountError> {
    const BAD: AccountError =
        AccountError::Invalid("aud must be a valid atproto DID or did#serviceId reference");
    let (did, fragment) = match audience.split_once('#') {
        Some((did, fragment)) => (did, Some(fragment)),
        None => (audience, None),
    };
    let fragment_fits = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~:%".contains(&b))
    };
    let did: Did = did.parse().map_err(|_| BAD)?;
    let known = match did.method() {
        DidMethod::Plc => is_plc(&did),
        DidMethod::Web => is_web_host(&did),
        _ => false,
    };
    if known && fragment.is_none_or(fragment_fits) { Ok(()) } else { Err(BAD) }
}

fn is_plc(did: &Did) -> bool {
    let id = did.as_str().trim_start_matches("did:plc:");
    id.len() == 24 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

/// A host name without path; a port only on localhost, where it is for development.
fn is_web_host(did: &Did) -> bool {
    let id = did.as_str().trim_start_matches("did:web:");
    match id.split_once("%3A") {
        Some((host, port)) => host == "localhost" && port.parse::<u16>().is_ok(),
        None => {
            id == "localhost"
                || (id.contains('.')
                    && !id.contains([':', '%', '_'])
                    && id.parse::<Ipv4Addr>().is_err()
                    && url::Host::parse(id).is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_a_did_of_the_network_with_or_without_a_service() {
        for good in [
            "did:web:hold.example.com",
            "did:web:hold.example.com#atcr_hold",
            "did:web:localhost%3A8080",
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto_pds",
        ] {
            check_audience(good).unwrap_or_else(|_| panic!("{good}"));
        }
        for bad in [
            "",
            "https://hold.example.com",
            "did:web:172.28.0.3%3A8080",
            "did:web:172.28.0.3",
            "did:web:example.com%3A8080",
            "did:web:example.com:path",
            "did:web:hold.example.com#",
            "did:web:hold.example.com#a#b",
            "did:plc:short",
            "did:key:zQ3shT2us7nemC7efzfs532Y8vLAoj3Ntztajvz5bpvmhXrmn",
        ] {
            assert!(check_audience(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_expiry_is_at_most_an_hour_ahead_and_a_minute_without_a_method() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let method: Nsid = "io.atcr.hold.uploadBlob".parse().unwrap();
        let at = |exp, bound| expiry(exp, Some(&method).filter(|_| bound), now).map(Timestamp::as_second);
        assert_eq!(at(None, false).unwrap(), 1_000_060);
        assert_eq!(at(Some(1_000_060), false).unwrap(), 1_000_060);
        assert_eq!(at(Some(1_003_600), true).unwrap(), 1_003_600);
        for (exp, bound) in [
            (1_000_061, false),
            (1_003_601, true),
            (999_999, true),
            (999_999, false),
            (i64::MAX, true),
            (i64::MIN, true),
        ] {
            assert!(matches!(at(Some(exp), bound), Err(AccountError::BadExpiration(_))), "{exp} {bound}");
        }
    }
}
