use std::error::Error;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::is_public;

/// Resolves by the system and gives the connector only addresses that may be reached, so that what was checked is what
/// is connected to.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatedResolver {
    pub(super) allow_loopback: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct Refused;

impl Resolve for GatedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|addr| is_public(addr.ip()) || (allow_loopback && addr.ip().is_loopback()))
                .collect();
            if allowed.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an error comes from the refusal above.
pub(super) fn refused(error: &reqwest::Error) -> Option<&'static str> {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<Refused>() {
            return Some("the name has no public address");
        }
        source = inner.source();
    }
    None
}
