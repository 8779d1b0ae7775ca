use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

use super::plc::fetch_document;
use super::{DidDocument, DidResolver, ResolveError};
use crate::egress::Egress;
use crate::syntax::Did;

/// Resolves did:web at `https://<host>/.well-known/did.json`.
///
/// The AT Protocol allows host names only: no path, and a port only for `localhost`, which is asked over http (and is
/// reachable only where the egress gate lets loopback through).
#[derive(Debug, Clone)]
pub struct WebResolver {
    egress: Egress,
}

impl WebResolver {
    /// A resolver whose requests go through this gate.
    pub fn new(egress: Egress) -> Self {
        Self { egress }
    }
}

/// Where the document of a did:web is.
fn document_url(did: &Did) -> Result<Url, ResolveError> {
    let host =
        did.as_str().strip_prefix("did:web:").ok_or_else(|| ResolveError::UnsupportedMethod(did.clone()))?;
    if host.contains(':') {
        return Err(ResolveError::invalid(did, "the AT Protocol takes a did:web without a path only"));
    }
    let (name, port) = match host.split_once("%3A").or_else(|| host.split_once("%3a")) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let scheme = if name == "localhost" { "http" } else { "https" };
    let authority = match port {
        Some(port) if name == "localhost" => {
            port.parse::<u16>().map_err(|_| ResolveError::invalid(did, "the port is not a number"))?;
            format!("{name}:{port}")
        }
        Some(_) => return Err(ResolveError::invalid(did, "a port is allowed for localhost only")),
        None => name.to_owned(),
    };
    if authority.contains('%') {
        return Err(ResolveError::invalid(did, "the host name has an escape that is not a port's colon"));
    }
    Url::parse(&format!("{scheme}://{authority}/.well-known/did.json"))
        .map_err(|e| ResolveError::invalid(did, e))
}

#[async_trait]
impl DidResolver for WebResolver {
    async fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        fetch_document(&self.egress, did, document_url(did)?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_and_localhost_with_a_port_are_asked() {
        let url = |did: &str| document_url(&did.parse().unwrap()).map(|u| u.to_string()).ok();
        assert_eq!(
            url("did:web:hold.example.com").as_deref(),
            Some("https://hold.example.com/.well-known/did.json")
        );
        assert_eq!(
            url("did:web:localhost%3A8080").as_deref(),
            Some("http://localhost:8080/.well-known/did.json")
        );
        assert_eq!(url("did:web:localhost").as_deref(), Some("http://localhost/.well-known/did.json"));
        for bad in [
            "did:web:host.example%3A8080",
            "did:web:host.example:path",
            "did:web:user%40host.example",
            "did:web:localhost%3Ax",
            "did:web:a%2Fb.example",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
