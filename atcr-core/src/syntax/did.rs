use super::string_format;

/// A decentralised identifier, such as `did:plc:ewvi7nxzyoun6zhxrhs64oiz` (AT Protocol specification, DID).
///
/// At most 2,048 bytes. Any method is accepted here; [`Did::method`] says which of the two that the network
/// resolves it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(Box<str>);

/// The DID methods of the AT Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DidMethod {
    /// `did:plc`: a record in a PLC directory.
    Plc,
    /// `did:web`: a document on a web host.
    Web,
    /// Any other method; no resolver of this crate knows it.
    Other,
}

impl Did {
    const FORMAT: &'static str = "DID";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.len() > 2048 {
            return Err("longer than 2,048 bytes");
        }
        let rest = text.strip_prefix("did:").ok_or("it does not begin with did:")?;
        let (method, id) = rest.split_once(':').ok_or("no identifier after the method")?;
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err("the method is lower-case letters only");
        }
        if id.is_empty() {
            return Err("no identifier after the method");
        }
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:%-".contains(&b)) {
            return Err("the identifier has a character outside A-Z a-z 0-9 . _ : % -");
        }
        if id.ends_with([':', '%']) {
            return Err("it ends with ':' or '%'");
        }
        Ok(())
    }

    /// The method of the DID.
    pub fn method(&self) -> DidMethod {
        if self.0.starts_with("did:plc:") {
            DidMethod::Plc
        } else if self.0.starts_with("did:web:") {
            DidMethod::Web
        } else {
            DidMethod::Other
        }
    }

    /// The DID of a service whose host is its identity: `did:web:example.com`, a port percent-encoded.
    ///
    /// `None` when the URL has no host name, or one that a DID cannot carry (an IPv6 literal).
    pub fn web_from_url(url: &url::Url) -> Option<Self> {
        let host = url.host_str()?;
        let text = match url.port() {
            Some(port) => format!("did:web:{host}%3A{port}"),
            None => format!("did:web:{host}"),
        };
        text.parse().ok()
    }

    /// The form in which a DID can stand in an OCI name, where `:` is not allowed: the two colons that separate
    /// scheme, method and identifier become hyphens (`did-plc-xyz`).
    pub fn to_hyphenated(&self) -> String {
        self.0.replacen(':', "-", 2)
    }

    /// Reads the form of [`Did::to_hyphenated`]; only the first two hyphens separate.
    pub fn from_hyphenated(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("did-")?;
        let (method, id) = rest.split_once('-')?;
        format!("did:{method}:{id}").parse().ok()
    }
}

string_format!(Did);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hyphenated_did_reads_back_as_itself() {
        for text in ["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:hold-01.example.com"] {
            let did: Did = text.parse().unwrap();
            assert_eq!(Did::from_hyphenated(&did.to_hyphenated()), Some(did));
        }
        assert_eq!(Did::from_hyphenated("did-plc"), None);
        assert_eq!(Did::from_hyphenated("alice.test"), None);
    }

    #[test]
    fn a_port_is_percent_encoded_in_a_web_did() {
        let url = "http://localhost:5002/".parse().unwrap();
        assert_eq!(Did::web_from_url(&url).unwrap().as_str(), "did:web:localhost%3A5002");
        let url = "https://hold.example.com".parse().unwrap();
        assert_eq!(Did::web_from_url(&url).unwrap().as_str(), "did:web:hold.example.com");
    }
}
