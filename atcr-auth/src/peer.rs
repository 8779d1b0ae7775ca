use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where requests come from, with the proxies in front of a service taken into account.
///
/// The peer of a connection is whom a request comes from, unless it is a proxy that is trusted: then it is the last
/// address in `X-Forwarded-For` that is not one. What others write into that header is not believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[Network]>);

/// A range of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a range of addresses; write it like 10.0.0.1 or 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

impl FromIterator<Network> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl TrustedProxies {
    /// Where a request comes from; `None` when the server does not say who its peer is.
    pub fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        let mut client = peer.ip().to_canonical();
        let forwarded = headers.get_all("x-forwarded-for").into_iter();
        let forwarded: Vec<_> = forwarded.filter_map(|value| value.to_str().ok()).collect();
        let mut before = forwarded.iter().rev().flat_map(|value| value.rsplit(','));
        while self.0.iter().any(|network| network.0.contains(&client)) {
            let Some(address) = before.next().and_then(|text| text.trim().parse::<IpAddr>().ok()) else {
                break;
            };
            client = address.to_canonical();
        }
        Some(client)
    }

    /// What the attempts of whoever sends a request are counted by; `None` when they are not.
    pub(crate) fn counted(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        self.client(extensions, headers).filter(|client| !may_be_unnamed_proxy(*client)).map(counted)
    }
}

/// Whether an address may be one of a proxy that nobody has named: what it guesses is guessed by everybody behind it, and
/// to make all of them wait would be the attack itself.
fn may_be_unnamed_proxy(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// What attempts are counted by: a household or a server has 64 bits of IPv6 addresses to itself.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies: TrustedProxies = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies.client(&extensions, &headers).unwrap().to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let lan = &["10.0.0.0/8", "fd00::/8"][..];
        for (trusted, peer, forwarded, expected) in [
            (&[][..], "203.0.113.9", &["1.1.1.1"][..], "203.0.113.9"),
            (lan, "203.0.113.9", &["1.1.1.1"], "203.0.113.9"),
            (lan, "10.1.2.3", &["1.1.1.1"], "1.1.1.1"),
            (lan, "::ffff:10.1.2.3", &["1.1.1.1"], "1.1.1.1"),
            (lan, "10.1.2.3", &["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
            (lan, "10.1.2.3", &["9.9.9.9", "1.1.1.1, 10.9.9.9"], "1.1.1.1"),
            (lan, "fd12::1", &["2001:db8::1"], "2001:db8::1"),
            (lan, "10.1.2.3", &[], "10.1.2.3"),
            (lan, "10.1.2.3", &["nonsense"], "10.1.2.3"),
            (&["0.0.0.0/0"], "8.8.8.8", &["10.0.0.1, 7.7.7.7"], "10.0.0.1"),
        ] {
            assert_eq!(client(trusted, peer, forwarded), expected, "{trusted:?} {peer} {forwarded:?}");
        }
        assert_eq!(TrustedProxies::default().client(&Extensions::new(), &HeaderMap::new()), None);
        for bad in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
        for (address, may) in
            [("127.0.0.1", true), ("192.168.1.2", true), ("fd00::1", true), ("8.8.8.8", false)]
        {
            assert_eq!(may_be_unnamed_proxy(address.parse().unwrap()), may, "{address}");
        }
        let (one, other) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff".parse().unwrap());
        assert_eq!(counted(one), counted(other));
    }
}
