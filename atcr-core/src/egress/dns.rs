use std::error::Error;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::is_public;

/// Looks the addresses of a name up.
pub(super) trait Lookup: Clone + Send + Sync + 'static {
    fn lookup(&self, name: String) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;
}

/// By the system.
#[derive(Debug, Clone, Copy)]
pub(super) struct System;

impl Lookup for System {
    async fn lookup(&self, name: String) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// Gives the connector only addresses that may be reached, so that what was checked is what is connected to: a name that
/// has another address by then (DNS rebinding) is of no use.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatedResolver<L> {
    pub(super) allow_loopback: bool,
    pub(super) lookup: L,
}

#[derive(Debug, thiserror::Error)]
#[error("the name has no public address")]
struct Refused;

impl<L: Lookup> Resolve for GatedResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { allow_loopback, lookup } = self.clone();
        Box::pin(async move {
            let found = lookup.lookup(name.as_str().to_owned()).await?;
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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Gives other addresses each time it is asked.
    #[derive(Debug, Clone)]
    pub(in crate::egress) struct Rebinding(Arc<Mutex<Vec<&'static [&'static str]>>>);

    impl Rebinding {
        pub(in crate::egress) fn new(answers: &[&'static [&'static str]]) -> Self {
            Self(Arc::new(Mutex::new(answers.iter().rev().copied().collect())))
        }
    }

    impl Lookup for Rebinding {
        async fn lookup(&self, _: String) -> std::io::Result<Vec<SocketAddr>> {
            let answer = self.0.lock().unwrap().pop().expect("asked more often than expected");
            Ok(answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect())
        }
    }

    #[tokio::test]
    async fn a_name_gives_no_address_of_a_private_network_whatever_it_gave_before() {
        let private: &[&str] =
            &["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"];
        let answers: [&[&str]; 4] = [&["8.8.8.8"], private, &["192.168.0.1", "8.8.4.4", "fe80::1"], &[]];
        let resolver = GatedResolver { allow_loopback: false, lookup: Rebinding::new(&answers) };
        for expected in [&["8.8.8.8"][..], &[], &["8.8.4.4"], &[]] {
            let given = resolver.resolve("rebind.example".parse().unwrap()).await;
            let given = given.map(|addresses| addresses.map(|at| at.ip().to_string()).collect::<Vec<_>>());
            assert_eq!(given.unwrap_or_default(), expected);
        }
    }
}
