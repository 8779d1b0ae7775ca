use std::fmt::Debug;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use serde::Deserialize;
use url::Url;

use super::ResolveError;
use crate::egress::{Egress, EgressError};
use crate::syntax::{Did, Handle};

/// Finds the DID that a handle points at (specification, Handle Resolution).
///
/// The answer alone proves nothing: the DID's document must name the handle too ([`IdentityResolver`](super::IdentityResolver)).
#[async_trait]
pub trait HandleResolver: Debug + Send + Sync + 'static {
    /// The DID; [`ResolveError::NotFound`] when the handle points nowhere.
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError>;
}

/// Asks the handle's own host: `https://<handle>/.well-known/atproto-did`.
#[derive(Debug, Clone)]
pub struct WellKnownHandleResolver {
    egress: Egress,
}

impl WellKnownHandleResolver {
    /// A resolver whose requests go through this gate.
    pub fn new(egress: Egress) -> Self {
        Self { egress }
    }
}

#[async_trait]
impl HandleResolver for WellKnownHandleResolver {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        let url = Url::parse(&format!("https://{handle}/.well-known/atproto-did"))
            .map_err(|e| ResolveError::invalid(handle, e))?;
        match self.egress.get(url, 4096).await {
            Ok(bytes) => did_of_well_known(handle, &bytes),
            Err(EgressError::Status { status, .. }) if status.is_client_error() => {
                Err(ResolveError::NotFound(handle.to_string()))
            }
            Err(error) => Err(ResolveError::unavailable(handle, error)),
        }
    }
}

/// The DID that a handle's own host names: its text, with nothing around it but white space.
pub fn did_of_well_known(handle: &Handle, body: &[u8]) -> Result<Did, ResolveError> {
    let text = std::str::from_utf8(body).unwrap_or_default().trim_ascii();
    text.parse().map_err(|e| ResolveError::invalid(handle, e))
}

/// Asks the DNS for the TXT record `_atproto.<handle>`, and the handle's own host when there is none. The DNS wins.
#[derive(Clone)]
pub struct DnsHandleResolver {
    dns: TokioResolver,
    well_known: WellKnownHandleResolver,
}

impl Debug for DnsHandleResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsHandleResolver").finish_non_exhaustive()
    }
}

impl DnsHandleResolver {
    /// A resolver that asks the name servers of the system's configuration.
    pub fn from_system(egress: Egress) -> Result<Self, ResolveError> {
        let dns = TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
            .map_err(|e| ResolveError::unavailable("the system's DNS configuration", e))?;
        Ok(Self { dns, well_known: WellKnownHandleResolver::new(egress) })
    }

    async fn resolve_dns(&self, handle: &Handle) -> Result<Option<Did>, ResolveError> {
        let lookup = match self.dns.txt_lookup(format!("_atproto.{handle}.")).await {
            Ok(lookup) => lookup,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(None),
            Err(error) => return Err(ResolveError::unavailable(handle, error)),
        };
        let texts = lookup.answers().iter().filter_map(|record| match &record.data {
            hickory_resolver::proto::rr::RData::TXT(txt) => {
                let joined: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                String::from_utf8(joined).ok()
            }
            _ => None,
        });
        did_of_records(handle, texts)
    }
}

/// The DID that the TXT records of a handle name. Two different ones are an error, not a choice.
pub fn did_of_records(
    handle: &Handle,
    texts: impl Iterator<Item = String>,
) -> Result<Option<Did>, ResolveError> {
    let mut dids = texts.filter_map(|text| text.trim_ascii().strip_prefix("did=").map(str::to_owned));
    let Some(first) = dids.next() else { return Ok(None) };
    if dids.any(|other| other != first) {
        return Err(ResolveError::invalid(handle, "its DNS names several DIDs"));
    }
    first.parse().map(Some).map_err(|e| ResolveError::invalid(handle, e))
}

#[async_trait]
impl HandleResolver for DnsHandleResolver {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        match self.resolve_dns(handle).await {
            Ok(Some(did)) => Ok(did),
            Ok(None) => self.well_known.resolve_handle(handle).await,
            Err(error @ ResolveError::Invalid { .. }) => Err(error),
            // A broken DNS does not hide a host that answers; if that fails too, the DNS's fault is reported.
            Err(error) => self.well_known.resolve_handle(handle).await.map_err(|_| error),
        }
    }
}

/// Asks a service for `com.atproto.identity.resolveHandle`: a PDS of a development network, whose handles no DNS knows.
#[derive(Debug, Clone)]
pub struct XrpcHandleResolver {
    egress: Egress,
    service: Url,
}

impl XrpcHandleResolver {
    /// Asks this service.
    pub fn new(egress: Egress, service: Url) -> Self {
        Self { egress, service }
    }
}

#[async_trait]
impl HandleResolver for XrpcHandleResolver {
    async fn resolve_handle(&self, handle: &Handle) -> Result<Did, ResolveError> {
        #[derive(Deserialize)]
        struct Output {
            did: Did,
        }
        let mut url = self
            .service
            .join("xrpc/com.atproto.identity.resolveHandle")
            .map_err(|e| ResolveError::invalid(handle, e))?;
        url.query_pairs_mut().append_pair("handle", handle.as_str());
        match self.egress.get(url, 4096).await {
            Ok(bytes) => {
                let output: Output =
                    serde_json::from_slice(&bytes).map_err(|e| ResolveError::invalid(handle, e))?;
                Ok(output.did)
            }
            Err(EgressError::Status { status, .. }) if status.is_client_error() && status.as_u16() != 429 => {
                Err(ResolveError::NotFound(handle.to_string()))
            }
            Err(error) => Err(ResolveError::unavailable(handle, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_dids_in_the_dns_are_an_error_and_other_records_are_ignored() {
        let handle: Handle = "alice.example".parse().unwrap();
        let of = |texts: &[&str]| did_of_records(&handle, texts.iter().map(|t| (*t).to_owned()));
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&["v=spf1 -all"]).unwrap().is_none());
        assert_eq!(
            of(&["x", "did=did:plc:abc", "did=did:plc:abc"]).unwrap().unwrap().as_str(),
            "did:plc:abc"
        );
        assert!(of(&["did=did:plc:abc", "did=did:plc:xyz"]).is_err());
        assert!(of(&["did=nonsense"]).is_err());
    }

    #[test]
    fn spaces_and_ends_of_lines_around_a_did_are_not_of_it_and_other_characters_are() {
        let handle: Handle = "alice.example".parse().unwrap();
        assert_eq!(did_of_well_known(&handle, b" did:plc:abc\r\n").unwrap().as_str(), "did:plc:abc");
        assert!(did_of_well_known(&handle, b"did:plc:abc\x0b").is_err());
        assert!(did_of_well_known(&handle, "\u{a0}did:plc:abc".as_bytes()).is_err());
        assert!(did_of_records(&handle, std::iter::once("did=did:plc:abc\u{b}".to_owned())).is_err());
    }
}
