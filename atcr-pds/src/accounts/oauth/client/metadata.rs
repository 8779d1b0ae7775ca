use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::{AuthMethod, Client, redirect};
use crate::accounts::oauth::OAuthError;
use crate::accounts::oauth::jwt::Jwk;

/// Client metadata (RFC 7591; specification, OAuth, "Client ID Metadata Document").
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    client_id: Option<String>,
    client_name: Option<String>,
    client_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default = "code")]
    response_types: Vec<String>,
    #[serde(default = "authorization_code")]
    grant_types: Vec<String>,
    scope: Option<String>,
    application_type: Option<ApplicationType>,
    #[serde(default)]
    dpop_bound_access_tokens: bool,
    token_endpoint_auth_method: Option<String>,
    token_endpoint_auth_signing_alg: Option<String>,
    jwks: Option<KeySet>,
    pub(super) jwks_uri: Option<Url>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ApplicationType {
    Web,
    Native,
}

#[derive(Debug, Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

fn code() -> Vec<String> {
    vec!["code".into()]
}

fn authorization_code() -> Vec<String> {
    vec!["authorization_code".into()]
}

/// Names that mean nothing, or this computer, in the network.
const LOCAL_DOMAINS: [&str; 5] = ["test", "local", "localhost", "invalid", "example"];

/// The address of a client's document, which its identifier is.
pub(super) fn document_url(id: &str) -> Result<Url, OAuthError> {
    let invalid = || OAuthError::invalid_client_metadata(format!("Invalid client ID \"{id}\""));
    let url = Url::parse(id).map_err(|_| invalid())?;
    let fits = url.scheme() == "https"
        // Another spelling of an address would be another identifier of the same client.
        && url.as_str() == id
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && !url.path().ends_with('/')
        && is_domain(&url);
    if fits { Ok(url) } else { Err(invalid()) }
}

fn is_domain(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            name.rsplit_once('.').is_some_and(|(_, last)| !LOCAL_DOMAINS.contains(&last))
        }
        _ => false,
    }
}

/// The page about a client is of the same origin as its document, and above it.
fn check_client_uri(uri: &str, id: &Url) -> Result<(), OAuthError> {
    let above = |uri: &Url| {
        let path = uri.path();
        id.path() == path
            || id.path().strip_prefix(path).is_some_and(|rest| path.ends_with('/') || rest.starts_with('/'))
    };
    match Url::parse(uri) {
        Ok(uri) if uri.origin() == id.origin() && above(&uri) => Ok(()),
        _ => Err(OAuthError::invalid_client_metadata("client_uri must be a parent URL of the client_id")),
    }
}

impl Metadata {
    /// Reads the document of the client `id` and checks what can be checked without its keys.
    pub(super) fn read(id: &str, url: &Url, document: &[u8]) -> Result<Self, OAuthError> {
        let invalid = |what: String| OAuthError::invalid_client_metadata(what);
        let read: Self = serde_json::from_slice(document)
            .map_err(|error| invalid(format!("Unable to obtain client metadata for \"{id}\": {error}")))?;
        if read.client_id.as_deref() != Some(id) {
            return Err(invalid("client_id does not match".into()));
        }
        if read.jwks.is_some() && read.jwks_uri.is_some() {
            return Err(invalid("jwks_uri and jwks are mutually exclusive".into()));
        }
        if read.jwks_uri.as_ref().is_some_and(|uri| uri.scheme() != "https") {
            return Err(invalid("jwks_uri must be https".into()));
        }
        let scopes: Vec<&str> = read.scope.as_deref().unwrap_or_default().split(' ').collect();
        if !scopes.contains(&"atproto") {
            return Err(invalid("Missing \"atproto\" scope".into()));
        }
        for grant in &read.grant_types {
            if !["authorization_code", "refresh_token"].contains(&grant.as_str()) {
                return Err(invalid(format!("Grant type \"{grant}\" is not supported")));
            }
        }
        if !read.response_types.iter().any(|kind| kind == "code") {
            return Err(invalid("response_types must include \"code\"".into()));
        }
        if !read.grant_types.iter().any(|kind| kind == "authorization_code") {
            return Err(invalid("grant_types must include \"authorization_code\"".into()));
        }
        if !read.dpop_bound_access_tokens {
            return Err(invalid("\"dpop_bound_access_tokens\" must be true".into()));
        }
        if read.redirect_uris.is_empty() {
            return Err(invalid("At least one redirect_uri is required".into()));
        }
        if let Some(uri) = &read.client_uri {
            check_client_uri(uri, url)?;
        }
        read.redirect_uris.iter().try_for_each(|uri| read.check_redirect(uri, url))?;
        Ok(read)
    }

    fn application_type(&self) -> ApplicationType {
        self.application_type.unwrap_or(ApplicationType::Web)
    }

    fn check_redirect(&self, uri: &str, id: &Url) -> Result<(), OAuthError> {
        let invalid = |what: String| OAuthError::invalid_redirect_uri(what);
        redirect::check(uri).map_err(|what| invalid(format!("Invalid redirect URI {uri}: {what}")))?;
        let url = Url::parse(uri).map_err(|_| invalid(format!("Invalid redirect URI {uri}")))?;
        let native = self.application_type() == ApplicationType::Native;
        match url.scheme() {
            "https" if is_domain(&url) => Ok(()),
            "https" => {
                Err(invalid(format!("Redirect URI \"{uri}\"'s domain name must not be a local hostname")))
            }
            "http" if native => Ok(()),
            "http" => Err(invalid("Loopback redirect URIs are only allowed for native apps".into())),
            _ if !native => {
                Err(invalid("Private-Use URI Scheme redirect URI are only allowed for native apps".into()))
            }
            scheme => {
                let labels: Vec<&str> = id.host_str().unwrap_or_default().rsplit('.').collect();
                if scheme == labels.join(".") && url.path().starts_with('/') && !url.has_authority() {
                    Ok(())
                } else {
                    Err(invalid(format!("the scheme of {uri} is not the client_id's host name reversed")))
                }
            }
        }
    }

    /// The client, with the keys that `jwks_uri` gave.
    pub(super) fn client(self, fetched: Option<&[u8]>, loaded: i64) -> Result<Client, OAuthError> {
        let invalid = |what: String| OAuthError::invalid_client_metadata(what);
        let method = self.token_endpoint_auth_method.as_deref().unwrap_or("client_secret_basic");
        let native = self.application_type() == ApplicationType::Native;
        let auth = match method {
            "none" => AuthMethod::None,
            "private_key_jwt" if native => {
                return Err(invalid("Native clients must authenticate using \"none\" method".into()));
            }
            "private_key_jwt" => {
                if self.token_endpoint_auth_signing_alg.is_none() {
                    return Err(invalid("Missing token_endpoint_auth_signing_alg client metadata".into()));
                }
                let set = match fetched {
                    None => self.jwks,
                    Some(bytes) => Some(
                        serde_json::from_slice(bytes)
                            .map_err(|error| invalid(format!("the jwks cannot be read: {error}")))?,
                    ),
                };
                let set = set
                    .ok_or_else(|| invalid("private_key_jwt auth method requires jwks or jwks_uri".into()))?;
                // Keys of other kinds may stand beside those that can be used here.
                let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
                AuthMethod::PrivateKeyJwt(keys.collect())
            }
            other => {
                return Err(invalid(format!(
                    "Unsupported client authentication method \"{other}\". Make sure \"token_endpoint_auth_method\" \
                     is set to one of: \"none\", \"private_key_jwt\""
                )));
            }
        };
        Ok(Client {
            id: self.client_id.unwrap_or_default(),
            name: self.client_name,
            uri: self.client_uri.and_then(|uri| Url::parse(&uri).ok()),
            redirect_uris: self.redirect_uris,
            scopes: self.scope.unwrap_or_default().split(' ').map(str::to_owned).collect(),
            refreshes: self.grant_types.iter().any(|grant| grant == "refresh_token"),
            auth,
            loaded,
        })
    }
}
