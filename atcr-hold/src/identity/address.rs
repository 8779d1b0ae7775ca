use std::collections::BTreeMap;

use atcr_core::crypto::PublicKey;
use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::{Did, Handle};
use atcr_pds::plc::PlcService;
use url::Url;

use crate::HoldError;

/// The services of a hold's document, and their types.
const SERVICES: [(&str, &str); 2] =
    [("atproto_pds", "AtprotoPersonalDataServer"), ("atcr_hold", "AtcrHoldService")];

/// Where a hold is reached, and the handle that comes with it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    url: Url,
    handle: Option<Handle>,
}

impl Address {
    /// `http` or `https`, a host, perhaps a port, and nothing else.
    pub(crate) fn new(public_url: &Url) -> Result<Self, HoldError> {
        let refuse = |reason| Err(HoldError::PublicUrl { url: Box::new(public_url.clone()), reason });
        if !matches!(public_url.scheme(), "http" | "https") {
            return refuse("it is not http or https");
        }
        let bare =
            public_url.path() == "/" && public_url.query().is_none() && public_url.fragment().is_none();
        if !bare || !public_url.username().is_empty() || public_url.password().is_some() {
            return refuse("a hold stands at the root of its host, so the URL has no path, query or user");
        }
        let handle = match public_url.port() {
            None => public_url.host_str().and_then(|host| host.parse().ok()),
            // A handle has no port, so it could not be resolved.
            Some(_) => None,
        };
        Ok(Self { url: public_url.clone(), handle })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// The did:web that the address makes.
    pub(crate) fn did_web(&self) -> Result<Did, HoldError> {
        Did::web_from_url(&self.url).ok_or_else(|| HoldError::PublicUrl {
            url: Box::new(self.url.clone()),
            reason: "a did:web cannot name its host",
        })
    }

    /// The document of the hold as its address and its key make it.
    pub(crate) fn document(&self, did: &Did, key: &PublicKey) -> Result<serde_json::Value, HoldError> {
        let services = SERVICES.map(|(id, kind)| (id, kind, &self.url));
        let document = DidDocument::new(did.clone(), self.handle.as_ref(), key, &services);
        Ok(serde_json::to_value(document)?)
    }

    /// The services as a directory has them.
    pub(crate) fn services(&self) -> BTreeMap<String, PlcService> {
        let endpoint = self.url.as_str().trim_end_matches('/');
        let service = |(id, kind): (&str, &str)| {
            (id.to_owned(), PlcService { kind: kind.to_owned(), endpoint: endpoint.to_owned() })
        };
        SERVICES.map(service).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atcr_core::crypto::{Curve, SigningKey};

    fn address(url: &str) -> Result<Address, HoldError> {
        Address::new(&url.parse().unwrap())
    }

    #[test]
    fn the_document_names_both_services_and_the_handle() {
        let key = SigningKey::generate(Curve::K256).unwrap().public_key();
        let hold = address("https://hold.example.com").unwrap();
        let did = hold.did_web().unwrap();
        assert_eq!(did.as_str(), "did:web:hold.example.com");
        let json = hold.document(&did, &key).unwrap();
        assert_eq!(json["alsoKnownAs"][0], "at://hold.example.com");
        let document: DidDocument = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(document.service("atcr_hold").unwrap(), document.pds().unwrap());
        assert_eq!(document.pds().unwrap().as_str(), "https://hold.example.com/");
        assert_eq!(json["service"][1]["type"], "AtcrHoldService");
        assert_eq!(document.signing_key().unwrap(), key);
        let local = address("http://localhost:5002").unwrap();
        assert_eq!(local.did_web().unwrap().as_str(), "did:web:localhost%3A5002");
        assert_eq!(local.handle(), None);
    }

    #[test]
    fn a_url_that_is_more_than_a_host_is_refused() {
        for url in [
            "https://hold.example.com/path",
            "https://u@hold.example.com",
            "ftp://hold.example.com",
            "https://hold.example.com/?a=b",
        ] {
            assert!(matches!(address(url), Err(HoldError::PublicUrl { .. })), "{url}");
        }
        let v6 = address("http://[::1]:5002/").unwrap();
        assert!(matches!(v6.did_web(), Err(HoldError::PublicUrl { .. })));
    }
}
