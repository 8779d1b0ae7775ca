use serde::Deserialize;
use url::{Host, Url};

/// What an authorization server says about itself (RFC 8414), checked against the profile of the AT Protocol.
#[derive(Debug, Clone)]
pub struct ServerMetadata {
    /// Its identifier, character for character as it writes it.
    pub issuer: String,
    /// Where browsers are sent.
    pub authorization_endpoint: Url,
    /// Where codes and refresh tokens are redeemed.
    pub token_endpoint: Url,
    /// Where requests are pushed (RFC 9126).
    pub par_endpoint: Url,
    /// Where sessions are ended (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Whether clients may prove who they are with a key of theirs.
    pub(super) takes_keys: bool,
    /// Whether it takes clients without a secret.
    pub(super) takes_public: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    pushed_authorization_request_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    response_types_supported: Vec<String>,
    #[serde(default)]
    grant_types_supported: Vec<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
    #[serde(default)]
    dpop_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
    protected_resources: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ProtectedResource {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
}

/// The issuer that the metadata of the protected resource at `pds` names (RFC 9728).
pub(super) fn issuer_of_resource(json: &[u8], pds: &Url) -> Result<String, String> {
    let document: ProtectedResource =
        serde_json::from_slice(json).map_err(|e| format!("it cannot be read: {e}"))?;
    let own = pds.origin().ascii_serialization();
    if document.resource.trim_end_matches('/') != own {
        return Err(format!("it is about {:?}, not about {own}", cut(&document.resource)));
    }
    let [issuer] = &document.authorization_servers[..] else {
        return Err("it does not name exactly one authorization server".to_owned());
    };
    issuer_url(issuer).map(|_| issuer.clone())
}

/// The URL of an issuer: an origin and nothing else.
pub(super) fn issuer_url(issuer: &str) -> Result<Url, String> {
    let url: Url = issuer.parse().map_err(|_| format!("the issuer {:?} is not a URL", cut(issuer)))?;
    if url.origin().ascii_serialization() != issuer.trim_end_matches('/') || issuer.ends_with("//") {
        return Err(format!("the issuer {:?} is more than scheme, host and port", cut(issuer)));
    }
    endpoint(issuer).map(|_| url)
}

impl ServerMetadata {
    /// Reads and checks the document that `issuer` publishes.
    pub fn parse(json: &[u8], issuer: &str) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(json).map_err(|e| format!("it cannot be read: {e}"))?;
        if document.issuer != issuer {
            return Err(format!("its issuer is {:?}, not {issuer}", cut(&document.issuer)));
        }
        let has = |list: &[String], word: &str| list.iter().any(|item| item == word);
        let signs = &document.token_endpoint_auth_signing_alg_values_supported;
        let auth = &document.token_endpoint_auth_methods_supported;
        for (holds, what) in [
            (has(&document.response_types_supported, "code"), "the response type code"),
            (has(&document.grant_types_supported, "authorization_code"), "the grant type authorization_code"),
            (has(&document.grant_types_supported, "refresh_token"), "the grant type refresh_token"),
            (has(&document.code_challenge_methods_supported, "S256"), "PKCE with S256"),
            (has(&document.dpop_signing_alg_values_supported, "ES256"), "DPoP with ES256"),
            (has(&document.scopes_supported, "atproto"), "the scope atproto"),
            (document.authorization_response_iss_parameter_supported, "iss in its answers"),
            (document.require_pushed_authorization_requests, "pushed authorization requests"),
            (document.client_id_metadata_document_supported, "clients that are named by a URL"),
        ] {
            if !holds {
                return Err(format!("it does not offer {what}"));
            }
        }
        let par = document.pushed_authorization_request_endpoint.as_deref();
        Ok(Self {
            authorization_endpoint: endpoint(&document.authorization_endpoint)?,
            token_endpoint: endpoint(&document.token_endpoint)?,
            par_endpoint: endpoint(par.ok_or("it names no endpoint for pushed authorization requests")?)?,
            revocation_endpoint: document.revocation_endpoint.as_deref().map(endpoint).transpose()?,
            takes_keys: has(auth, "private_key_jwt") && has(signs, "ES256"),
            takes_public: has(auth, "none"),
            issuer: document.issuer,
        })
        .and_then(|server| match &document.protected_resources {
            Some(resources) if resources.is_empty() => Err("it protects nothing".to_owned()),
            _ => Ok(server),
        })
    }
}

/// An endpoint: https, or http on this machine, which the egress gate lets through in development only.
fn endpoint(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|_| format!("{:?} is not a URL", cut(text)))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let good = url.scheme() == "https" || (url.scheme() == "http" && local);
    if !good || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{:?} is not an https URL without user and fragment", cut(text)));
    }
    Ok(url)
}

fn cut(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "issuer": "https://pds.example",
            "authorization_endpoint": "https://pds.example/oauth/authorize",
            "token_endpoint": "https://pds.example/oauth/token",
            "pushed_authorization_request_endpoint": "https://pds.example/oauth/par",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "dpop_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["atproto"],
            "authorization_response_iss_parameter_supported": true,
            "require_pushed_authorization_requests": true,
            "client_id_metadata_document_supported": true,
        })
    }

    fn parse(document: &Value) -> Result<ServerMetadata, String> {
        ServerMetadata::parse(document.to_string().as_bytes(), "https://pds.example")
    }

    #[test]
    fn each_thing_that_is_lacking_is_named() {
        parse(&good()).unwrap();
        for (field, value) in [
            ("issuer", json!("https://evil.example")),
            ("issuer", json!("https://pds.example/")),
            ("response_types_supported", json!(["token"])),
            ("grant_types_supported", json!(["authorization_code"])),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("dpop_signing_alg_values_supported", json!(["RS256"])),
            ("scopes_supported", json!([])),
            ("authorization_response_iss_parameter_supported", json!(false)),
            ("require_pushed_authorization_requests", json!(false)),
            ("client_id_metadata_document_supported", json!(false)),
            ("pushed_authorization_request_endpoint", Value::Null),
            ("token_endpoint", json!("http://pds.example/token")),
            ("token_endpoint", json!("ftp://pds.example/token")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("authorization_endpoint", json!("https://user:pw@pds.example/")),
            ("revocation_endpoint", json!("file:///etc/passwd")),
        ] {
            let mut bad = good();
            bad[field] = value.clone();
            let error = parse(&bad).unwrap_err();
            assert!(!error.is_empty(), "{field}: {value}");
        }
        assert!(ServerMetadata::parse(b"[]", "https://pds.example").is_err());
    }

    #[test]
    fn a_resource_names_itself_and_one_issuer() {
        let pds: Url = "https://pds.example/".parse().unwrap();
        let of = |resource: &str, servers: Value| {
            let json = json!({ "resource": resource, "authorization_servers": servers });
            issuer_of_resource(json.to_string().as_bytes(), &pds)
        };
        let entry = "https://entry.example";
        assert_eq!(of("https://pds.example", json!([entry])).unwrap(), entry);
        for (resource, servers) in [
            ("https://evil.example", json!([entry])),
            ("https://pds.example.evil.example", json!([entry])),
            ("https://pds.example", json!([])),
            ("https://pds.example", json!([entry, "https://other.example"])),
            ("https://pds.example", json!(["https://entry.example/path"])),
            ("https://pds.example", json!(["https://entry.example?x"])),
            ("https://pds.example", json!(["https://entry.example#x"])),
            ("https://pds.example", json!(["https://user@entry.example"])),
            ("https://pds.example", json!(["http://entry.example"])),
            ("https://pds.example", json!(["entry.example"])),
        ] {
            assert!(of(resource, servers.clone()).is_err(), "{resource} {servers}");
        }
    }
}
