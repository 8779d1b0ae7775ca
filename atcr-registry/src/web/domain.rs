use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

/// A name that a registry answers under, as it stands before the names of images: `registry.example` or
/// `registry.example:5000`, at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryDomain(String);

/// What is no name of a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name, with a port or without, such as registry.example:5000")]
pub struct NoDomain(String);

impl RegistryDomain {
    /// The name and the port, if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name alone.
    pub fn host(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
            _ => &self.0,
        }
    }

    /// Whether a `Host` header names it.
    pub fn is(&self, host: &str) -> bool {
        self.0.eq_ignore_ascii_case(host)
    }
}

impl FromStr for RegistryDomain {
    type Err = NoDomain;

    fn from_str(text: &str) -> Result<Self, NoDomain> {
        let bad = || NoDomain(text.chars().take(80).collect());
        let lower = text.to_ascii_lowercase();
        // With a scheme that has no port of its own, so that none is left out.
        let url = Url::parse(&format!("registry://{lower}")).map_err(|_| bad())?;
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        let is_name = url.authority() == lower && url.host_str().is_some_and(|host| !host.is_empty());
        if !is_name || lower.len() > 255 || !lower.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Self(lower))
    }
}

impl fmt::Display for RegistryDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RegistryDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_and_maybe_a_port() {
        for (text, host) in [
            ("registry.example", "registry.example"),
            ("Registry.Example:5000", "registry.example"),
            ("localhost:443", "localhost"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:5000", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            let domain: RegistryDomain = text.parse().unwrap();
            assert_eq!((domain.as_str(), domain.host()), (text.to_ascii_lowercase().as_str(), host));
            assert!(domain.is(text));
        }
        for bad in
            ["", "https://registry.example", "a/b", "a b", "a@b", "a:b", "a:99999", "a?b", "a#b", "<b>", ":5"]
        {
            assert!(bad.parse::<RegistryDomain>().is_err(), "{bad}");
        }
    }
}
