use serde::{Deserialize, Serialize};
use url::Url;

use crate::crypto::{Curve, KeyError, PublicKey};
use crate::syntax::{Did, Handle};

/// A DID document, as far as the AT Protocol reads it (specification, DID).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DidDocument {
    /// JSON-LD contexts; written, never read.
    #[serde(rename = "@context", default, skip_serializing_if = "serde_json::Value::is_null")]
    pub context: serde_json::Value,
    /// The DID this is the document of.
    pub id: Did,
    /// Other names, handles among them (`at://alice.example`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_known_as: Vec<String>,
    /// Keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verification_method: Vec<VerificationMethod>,
    /// Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<Service>,
}

/// A key in a DID document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMethod {
    /// `#atproto`, or with the DID before it.
    pub id: String,
    /// `Multikey`, or one of the two older names.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose key it is.
    #[serde(default)]
    pub controller: String,
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_multibase: Option<String>,
}

/// A service in a DID document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `#atproto_pds`, or with the DID before it.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is: a URL as text in every service of this network; other forms are kept and not read.
    pub service_endpoint: serde_json::Value,
}

/// Why a document does not give what was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// There is no such key.
    #[error("the document of {0} has no #atproto key")]
    NoKey(Did),
    /// The key is not readable.
    #[error("the #atproto key of {did} is not readable: {source}")]
    Key {
        /// Whose document.
        did: Did,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// There is no such service, or its endpoint is not a usable URL.
    #[error("the document of {did} names no usable {id} service")]
    NoService {
        /// Whose document.
        did: Did,
        /// The fragment that was looked for.
        id: String,
    },
}

impl DidDocument {
    fn is_fragment(&self, id: &str, fragment: &str) -> bool {
        let rest = id.strip_prefix(self.id.as_str()).unwrap_or(id);
        rest.strip_prefix('#') == Some(fragment)
    }

    /// The key that signs the account's commits and service tokens: the first verification method `#atproto`.
    pub fn signing_key(&self) -> Result<PublicKey, DocumentError> {
        let no_key = || DocumentError::NoKey(self.id.clone());
        let method = self
            .verification_method
            .iter()
            .find(|m| self.is_fragment(&m.id, "atproto"))
            .ok_or_else(no_key)?;
        let text = method.public_key_multibase.as_deref().ok_or_else(no_key)?;
        let key = match method.kind.as_str() {
            "Multikey" => PublicKey::from_multikey(text),
            "EcdsaSecp256r1VerificationKey2019" => PublicKey::from_legacy_multibase(Curve::P256, text),
            "EcdsaSecp256k1VerificationKey2019" => PublicKey::from_legacy_multibase(Curve::K256, text),
            _ => Err(KeyError::Kind),
        };
        key.map_err(|source| DocumentError::Key { did: self.id.clone(), source })
    }

    /// The endpoint of the first service with this fragment (`atproto_pds`, `atcr_hold`): http or https, with a host.
    pub fn service(&self, fragment: &str) -> Result<Url, DocumentError> {
        let endpoint = self.service.iter().find(|s| self.is_fragment(&s.id, fragment));
        endpoint
            .and_then(|s| s.service_endpoint.as_str())
            .and_then(|text| Url::parse(text).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| DocumentError::NoService { did: self.id.clone(), id: fragment.to_owned() })
    }

    /// Where the account's PDS is.
    pub fn pds(&self) -> Result<Url, DocumentError> {
        self.service("atproto_pds")
    }

    /// The handle that the document claims: the first valid `at://` name. It counts only once the handle resolves
    /// back to this DID.
    pub fn claimed_handle(&self) -> Option<Handle> {
        self.also_known_as.iter().find_map(|name| name.strip_prefix("at://")?.parse().ok())
    }

    /// The document of a service with one key, as the AT Protocol writes it.
    pub fn new(id: Did, handle: Option<&Handle>, key: &PublicKey, services: &[(&str, &str, &Url)]) -> Self {
        let service = services.iter().map(|(fragment, kind, endpoint)| Service {
            id: format!("#{fragment}"),
            kind: (*kind).to_owned(),
            service_endpoint: endpoint.as_str().trim_end_matches('/').into(),
        });
        Self {
            context: serde_json::json!([
                "https://www.w3.org/ns/did/v1",
                "https://w3id.org/security/multikey/v1",
                "https://w3id.org/security/suites/secp256k1-2019/v1",
            ]),
            also_known_as: handle.map(|h| format!("at://{h}")).into_iter().collect(),
            verification_method: vec![VerificationMethod {
                id: format!("{id}#atproto"),
                kind: "Multikey".to_owned(),
                controller: id.to_string(),
                public_key_multibase: Some(key.to_multikey()),
            }],
            service: service.collect(),
            id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    #[test]
    fn keys_services_and_handle_are_found_by_short_and_long_ids() {
        let key = SigningKey::generate(Curve::K256).unwrap().public_key();
        let did: Did = "did:plc:abc234".parse().unwrap();
        let pds = "https://pds.example".parse().unwrap();
        let handle = "alice.example".parse().unwrap();
        let mut doc =
            DidDocument::new(did, Some(&handle), &key, &[("atproto_pds", "AtprotoPersonalDataServer", &pds)]);
        doc.also_known_as.insert(0, "https://alice.example".to_owned());
        assert_eq!(doc.signing_key().unwrap(), key);
        assert_eq!(doc.pds().unwrap(), pds);
        assert_eq!(doc.claimed_handle(), Some(handle));
        doc.verification_method[0].id = "#atproto".into();
        doc.service[0].id = "did:plc:abc234#atproto_pds".into();
        let again: DidDocument = serde_json::from_value(serde_json::to_value(&doc).unwrap()).unwrap();
        assert_eq!(again.signing_key().unwrap(), key);
        assert_eq!(again.pds().unwrap(), pds);
    }

    #[test]
    fn a_service_that_is_not_a_web_address_is_not_used() {
        let json = r##"{"id":"did:web:x.example","service":[{"id":"#atproto_pds","type":"T","serviceEndpoint":["a"]},
            {"id":"#atcr_hold","type":"T","serviceEndpoint":"file:///etc/passwd"}]}"##;
        let doc: DidDocument = serde_json::from_str(json).unwrap();
        assert!(doc.pds().is_err() && doc.service("atcr_hold").is_err() && doc.signing_key().is_err());
    }
}
