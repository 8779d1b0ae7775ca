use std::fmt;
use std::net::IpAddr;

use url::Url;

use super::HelperError;

/// The longest address that is read.
const MAX: usize = 1024;

/// A registry as clients name it: a host with its port, if that is not 443. `https://Registry.Example/v2/` and
/// `registry.example` are the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServerName(String);

impl ServerName {
    /// Reads what a client or a person gives. A path does not tell registries apart.
    pub(super) fn parse(text: &str) -> Result<Self, HelperError> {
        let text = text.trim();
        let refused = || HelperError::NotAServer { text: text.chars().take(128).collect() };
        if text.is_empty() {
            return Err(HelperError::NoServerUrl);
        }
        if text.len() > MAX {
            return Err(refused());
        }
        let rest = match text.split_once("://") {
            Some(("https" | "http", rest)) => rest,
            Some(_) => return Err(refused()),
            None => text,
        };
        // What the name is followed by in an image's name is no part of it.
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() || host.contains('@') {
            return Err(refused());
        }
        let url: Url = format!("https://{host}").parse().map_err(|_| refused())?;
        let (Some(name), port) = (url.host_str(), url.port()) else { return Err(refused()) };
        Ok(Self(port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it answers: https, and plain http for this machine only, which no other one can listen to.
    pub(super) fn url(&self) -> Result<Url, HelperError> {
        let scheme = if self.is_loopback() { "http" } else { "https" };
        format!("{scheme}://{}", self.0).parse().map_err(|_| HelperError::NotAServer { text: self.0.clone() })
    }

    fn is_loopback(&self) -> bool {
        let Ok(url) = format!("https://{}", self.0).parse::<Url>() else { return false };
        match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
            Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
            None => false,
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_registry_has_one_name_however_it_is_written() {
        for (written, meant) in [
            ("registry.example", "registry.example"),
            ("Registry.Example\n", "registry.example"),
            ("https://registry.example/v2/", "registry.example"),
            ("https://registry.example:443", "registry.example"),
            ("http://registry.example:5000/v1/", "registry.example:5000"),
            ("registry.example/alice.test/app:1", "registry.example"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(ServerName::parse(written).unwrap().as_str(), meant, "{written:?}");
        }
        for bad in ["https://", "ftp://x", "a b", "https://user@registry.example", "/x", "x:99999"] {
            assert!(ServerName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(ServerName::parse(" \n"), Err(HelperError::NoServerUrl)));
    }

    #[test]
    fn secrets_go_over_plain_http_to_this_machine_only() {
        for (name, scheme) in [
            ("127.0.0.1:5000", "http"),
            ("localhost:5000", "http"),
            ("[::1]:5000", "http"),
            ("localhost.evil.example", "https"),
            ("127.0.0.1.evil.example", "https"),
            ("http://10.0.0.1", "https"),
            ("registry.example", "https"),
        ] {
            assert_eq!(ServerName::parse(name).unwrap().url().unwrap().scheme(), scheme, "{name}");
        }
    }
}
