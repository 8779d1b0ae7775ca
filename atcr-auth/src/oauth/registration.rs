use std::fmt;

use serde_json::{Value, json};
use url::form_urlencoded::Serializer;
use url::{Host, Url};

use super::scope::declared;
use super::{Es256Key, OAuthError};
use crate::clock::Clock;
use crate::jwt::random_id;

/// Where a browser comes back to.
pub(crate) const CALLBACK: &str = "/auth/oauth/callback";
/// Where the metadata are, and were before.
pub(crate) const METADATA: [&str; 2] = ["/oauth-client-metadata.json", "/client-metadata.json"];
pub(crate) const JWKS: &str = "/auth/oauth/jwks.json";
/// Servers take an assertion for about a minute.
const ASSERTION_LIFETIME: i64 = 60;

/// The keys by which a client proves who it is (`private_key_jwt`): one for new sessions, and former ones, to which
/// the sessions that began with them are bound.
///
/// To rotate: start with the new key and the old one as a previous one, and leave that out once its last session is
/// gone (180 days, specification). Servers look at the published keys again by themselves.
#[derive(Debug, Clone)]
pub struct ClientKeys(Vec<Es256Key>);

impl ClientKeys {
    /// One key.
    pub fn new(current: Es256Key) -> Self {
        Self(vec![current])
    }

    /// These, and one that was current before.
    #[must_use]
    pub fn with_previous(mut self, previous: Es256Key) -> Self {
        if !self.0.contains(&previous) {
            self.0.push(previous);
        }
        self
    }

    /// The public keys as a JSON Web Key Set, the current one first.
    pub fn jwks(&self) -> Value {
        let keys = self.0.iter().map(|key| {
            let mut jwk = key.jwk();
            jwk["kid"] = key.thumbprint().into();
            jwk["alg"] = "ES256".into();
            jwk["use"] = "sig".into();
            jwk
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    fn current(&self) -> Option<&Es256Key> {
        self.0.first()
    }

    fn find(&self, id: &str) -> Option<&Es256Key> {
        self.0.iter().find(|key| key.thumbprint() == id)
    }
}

/// Why a registry at some URL cannot be an OAuth client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{base_url} cannot be an OAuth client: {reason}; people sign in with app passwords until it has an https URL without a port"
)]
pub struct RegistrationError {
    base_url: String,
    reason: &'static str,
}

/// Who the registry is towards authorization servers: a confidential client named by the URL of its metadata or, on
/// loopback, the public client that servers know without any (specification, OAuth, Localhost Client Development).
#[derive(Clone)]
pub struct ClientRegistration {
    base: Url,
    name: String,
    /// `None` for the loopback client.
    keys: Option<ClientKeys>,
    client_id: String,
}

impl ClientRegistration {
    /// The registry at `base_url`, which calls itself `name` on the pages where people agree.
    pub fn new(base_url: &Url, name: &str, keys: ClientKeys) -> Result<Self, RegistrationError> {
        let refused = |reason| RegistrationError { base_url: base_url.to_string(), reason };
        let mut base = base_url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        let loopback = match base.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain("localhost")) => {
                // A browser must come back to the host that it started at, and servers send nobody to this name.
                base.set_ip_host(std::net::Ipv4Addr::LOCALHOST.into())
                    .map_err(|()| refused("it has no host"))?;
                true
            }
            Some(Host::Domain(_)) => false,
            None => return Err(refused("it has no host")),
        };
        if loopback && base.scheme() == "http" {
            let mut this = Self { base, name: name.to_owned(), keys: None, client_id: String::new() };
            let redirect = this.redirect_uri();
            let mut query = Serializer::new(String::new());
            query.append_pair("redirect_uri", redirect.as_str()).append_pair("scope", &declared());
            this.client_id = format!("http://localhost?{}", query.finish());
            return Ok(this);
        }
        match (base.scheme(), base.host(), base.port()) {
            ("https", Some(Host::Domain(_)), None) => {}
            ("https", Some(Host::Domain(_)), Some(_)) => return Err(refused("its URL has a port")),
            ("https", _, _) => return Err(refused("its URL has an address in place of a name")),
            _ => return Err(refused("its URL is not https")),
        }
        let client_id = format!("{}{}", base.origin().ascii_serialization(), METADATA[0]);
        Ok(Self { base, name: name.to_owned(), keys: Some(keys), client_id })
    }

    /// The identifier.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Where browsers come back to.
    pub fn redirect_uri(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path(CALLBACK);
        url
    }

    /// The registry's URL, as browsers use it.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.keys.is_none()
    }

    pub(crate) fn keys(&self) -> Option<&ClientKeys> {
        self.keys.as_ref()
    }

    /// The metadata that are published at a path; each path is an identifier of its own.
    pub(crate) fn metadata(&self, path: &str) -> Value {
        let url = |path: &str| format!("{}{path}", self.base.origin().ascii_serialization());
        json!({
            "client_id": url(path),
            "client_name": self.name,
            "client_uri": url(""),
            "application_type": "web",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [self.redirect_uri()],
            "scope": declared(),
            "dpop_bound_access_tokens": true,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks_uri": url(JWKS),
        })
    }

    /// The key for new sessions, by its identifier.
    pub(super) fn key_id(&self) -> Option<String> {
        self.keys.as_ref()?.current().map(Es256Key::thumbprint)
    }

    /// What proves to `issuer` that a request comes from this client: fields for its form. `skew` is how many seconds
    /// the server's clock is ahead.
    pub(super) fn proof(
        &self,
        issuer: &str,
        client_id: &str,
        key_id: Option<&str>,
        clock: &Clock,
        skew: i64,
    ) -> Result<Vec<(&'static str, String)>, OAuthError> {
        let mut fields = vec![("client_id", client_id.to_owned())];
        let Some(keys) = &self.keys else { return Ok(fields) };
        // A session whose key is gone is tried with the current one: the server decides.
        let key = key_id.and_then(|id| keys.find(id)).or(keys.current()).ok_or(OAuthError::NotConfigured)?;
        let now = clock.unix().saturating_add(skew);
        let header = json!({ "alg": "ES256", "kid": key.thumbprint() });
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": issuer,
            "jti": random_id().map_err(|_| OAuthError::Random)?,
            "iat": now, "exp": now.saturating_add(ASSERTION_LIFETIME),
        });
        let assertion = key.sign(&header, &claims).map_err(|_| OAuthError::NotConfigured)?;
        fields.push((
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
        ));
        fields.push(("client_assertion", assertion));
        Ok(fields)
    }
}

impl fmt::Debug for ClientRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRegistration").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(base: &str) -> Result<ClientRegistration, RegistrationError> {
        let keys = ClientKeys::new(Es256Key::generate().unwrap());
        ClientRegistration::new(&base.parse().unwrap(), "ATCR", keys)
    }

    #[test]
    fn an_https_name_is_a_confidential_client_at_both_paths() {
        let client = register("https://registry.example").unwrap();
        assert_eq!(client.client_id(), "https://registry.example/oauth-client-metadata.json");
        for path in METADATA {
            let metadata = client.metadata(path);
            assert_eq!(metadata["client_id"], format!("https://registry.example{path}"));
            assert_eq!(metadata["redirect_uris"][0], "https://registry.example/auth/oauth/callback");
        }
        for base in [
            "http://registry.example",
            "https://registry.example:8443",
            "https://192.0.2.1",
            "https://127.0.0.1",
            "https://localhost:5000",
            "http://127.0.0.1.example",
            "http://localhost.example",
        ] {
            assert!(register(base).is_err(), "{base}");
        }
    }

    #[test]
    fn on_loopback_it_is_the_development_client_whatever_the_host_is_called() {
        for (base, redirect) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/auth/oauth/callback"),
            ("http://localhost:5000", "http://127.0.0.1:5000/auth/oauth/callback"),
            ("http://[::1]:5000", "http://[::1]:5000/auth/oauth/callback"),
        ] {
            let client = register(base).unwrap();
            assert_eq!(client.redirect_uri().as_str(), redirect);
            assert!(
                client.client_id().starts_with("http://localhost?redirect_uri=http%3A%2F%2F"),
                "{client:?}"
            );
            let fields =
                client.proof("https://pds.example", client.client_id(), None, &Clock::system(), 0).unwrap();
            assert_eq!(fields.len(), 1, "a public client has nothing to prove");
        }
    }

    #[test]
    fn a_session_goes_on_with_the_key_that_it_began_with() {
        let (old, new) = (Es256Key::generate().unwrap(), Es256Key::generate().unwrap());
        let base = "https://registry.example".parse().unwrap();
        let keys = ClientKeys::new(new.clone()).with_previous(old.clone()).with_previous(old.clone());
        assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 2);
        let client = ClientRegistration::new(&base, "ATCR", keys).unwrap();
        let kid = |key_id: Option<&str>| {
            let fields = client
                .proof("https://pds.example", client.client_id(), key_id, &Clock::manual(1000), 7)
                .unwrap();
            let assertion = &fields[2].1;
            let claims: Value = crate::jwt::unverified_claims(assertion).unwrap();
            assert_eq!((&claims["aud"], &claims["iat"]), (&"https://pds.example".into(), &1007.into()));
            let parts = crate::jwt::Parts::split(assertion).unwrap();
            serde_json::from_slice::<Value>(&parts.header).unwrap()["kid"].as_str().unwrap().to_owned()
        };
        assert_eq!(kid(None), new.thumbprint());
        assert_eq!(kid(Some(&old.thumbprint())), old.thumbprint());
        assert_eq!(kid(Some("gone")), new.thumbprint());
        assert_eq!(client.key_id(), Some(new.thumbprint()));
    }
}
