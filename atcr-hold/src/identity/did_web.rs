use async_trait::async_trait;
use atcr_core::crypto::PublicKey;
use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::{Did, Handle};
use atcr_pds::blobs::DEFAULT_BLOB_LIMIT;
use atcr_pds::xrpc::{Host, HostIdentity, ServerContact, ServerDescription, ServerLinks, XrpcError};
use serde_json::Value;
use url::Url;

use crate::HoldError;

/// The hold as an account of its own PDS.
#[derive(Debug, Clone)]
pub(crate) struct HoldIdentity {
    did: Did,
    handle: Option<Handle>,
    public_url: Url,
    document: Value,
}

impl HoldIdentity {
    /// The identity of a hold at `public_url`: `http` or `https`, a host, perhaps a port, and nothing else.
    pub(crate) fn new(public_url: &Url, key: &PublicKey) -> Result<Self, HoldError> {
        let refuse = |reason| HoldError::PublicUrl { url: Box::new(public_url.clone()), reason };
        if !matches!(public_url.scheme(), "http" | "https") {
            return Err(refuse("it is not http or https"));
        }
        let bare =
            public_url.path() == "/" && public_url.query().is_none() && public_url.fragment().is_none();
        if !bare || !public_url.username().is_empty() || public_url.password().is_some() {
            return Err(refuse("a did:web is a host, so the URL has no path, query or user"));
        }
        let did = Did::web_from_url(public_url).ok_or_else(|| refuse("a did:web cannot name its host"))?;
        let handle = match public_url.port() {
            None => public_url.host_str().and_then(|host| host.parse().ok()),
            // A handle has no port, so it could not be resolved.
            Some(_) => None,
        };
        let services = [
            ("atproto_pds", "AtprotoPersonalDataServer", public_url),
            ("atcr_hold", "AtcrHoldService", public_url),
        ];
        let document = DidDocument::new(did.clone(), handle.as_ref(), key, &services);
        let document = serde_json::to_value(&document)?;
        Ok(Self { did, handle, public_url: public_url.clone(), document })
    }

    pub(crate) fn did(&self) -> &Did {
        &self.did
    }

    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    pub(crate) fn public_url(&self) -> &Url {
        &self.public_url
    }
}

#[async_trait]
impl Host for HoldIdentity {
    fn describe(&self) -> ServerDescription {
        ServerDescription {
            did: self.did.clone(),
            available_user_domains: Vec::new(),
            invite_code_required: true,
            blob_upload_limit: DEFAULT_BLOB_LIMIT,
            links: ServerLinks::default(),
            contact: ServerContact::default(),
        }
    }

    async fn resolve_handle(&self, handle: &Handle) -> Result<Option<Did>, XrpcError> {
        Ok((self.handle.as_ref() == Some(handle)).then(|| self.did.clone()))
    }

    async fn identity(&self, _: &Did) -> Result<HostIdentity, XrpcError> {
        Ok(HostIdentity {
            handle: self.handle.clone().unwrap_or_else(Handle::invalid),
            document: self.document.clone(),
            handle_is_correct: self.handle.is_some(),
        })
    }

    async fn own_document(&self) -> Option<Value> {
        Some(self.document.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atcr_core::crypto::{Curve, SigningKey};

    fn identity(url: &str) -> Result<HoldIdentity, HoldError> {
        let key = SigningKey::generate(Curve::K256).unwrap().public_key();
        HoldIdentity::new(&url.parse().unwrap(), &key)
    }

    #[test]
    fn the_document_names_both_services_and_the_handle() {
        let hold = identity("https://hold.example.com").unwrap();
        assert_eq!(hold.did().as_str(), "did:web:hold.example.com");
        assert_eq!(hold.document["alsoKnownAs"][0], "at://hold.example.com");
        let document: DidDocument = serde_json::from_value(hold.document.clone()).unwrap();
        assert_eq!(document.service("atcr_hold").unwrap(), document.pds().unwrap());
        assert_eq!(document.pds().unwrap().as_str(), "https://hold.example.com/");
        assert_eq!(hold.document["service"][1]["type"], "AtcrHoldService");
        assert!(document.signing_key().is_ok());
        let local = identity("http://localhost:5002").unwrap();
        assert_eq!(local.did().as_str(), "did:web:localhost%3A5002");
        assert_eq!(local.handle(), None);
    }

    #[test]
    fn a_url_that_is_more_than_a_host_is_refused() {
        for url in [
            "https://hold.example.com/path",
            "https://u@hold.example.com",
            "ftp://hold.example.com",
            "https://hold.example.com/?a=b",
            "http://[::1]:5002/",
        ] {
            assert!(matches!(identity(url), Err(HoldError::PublicUrl { .. })), "{url}");
        }
    }
}
