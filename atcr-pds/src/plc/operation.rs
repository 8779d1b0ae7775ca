use std::collections::BTreeMap;

use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::Did;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ipld_core::cid::Cid;
use ipld_core::cid::multihash::Multihash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::PlcError;

/// A signed operation of a did:plc log. In JSON `type` tells the three kinds apart; unknown fields are refused,
/// because they would be outside the signature that is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Operation {
    /// `plc_operation`: sets the whole state, as genesis or as update.
    #[serde(rename = "plc_operation")]
    Update(Update),
    /// `plc_tombstone`: gives the DID up.
    #[serde(rename = "plc_tombstone")]
    Tombstone(Tombstone),
    /// `create`: the genesis operation of 2022, read but never written.
    #[serde(rename = "create")]
    Create(LegacyCreate),
}

/// A `plc_operation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Update {
    /// The keys that may sign the next operation, the mightiest first, as did:key.
    pub rotation_keys: Vec<String>,
    /// Named keys of the document, as did:key; `atproto` signs commits.
    pub verification_methods: BTreeMap<String, String>,
    /// Names, the first `at://` one being the handle.
    pub also_known_as: Vec<String>,
    /// Named services of the document; `atproto_pds` is the PDS.
    pub services: BTreeMap<String, PlcService>,
    /// CID of the operation before, `None` at genesis.
    pub prev: Option<String>,
    /// 64 bytes r‖s in base64url without padding.
    pub sig: String,
}

/// A `plc_tombstone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// CID of the operation before.
    pub prev: String,
    /// 64 bytes r‖s in base64url without padding.
    pub sig: String,
}

/// A `create`, the first form of a genesis operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LegacyCreate {
    /// The key that signs commits and, after the recovery key, operations.
    pub signing_key: String,
    /// The mightier rotation key.
    pub recovery_key: String,
    /// The handle, with or without `at://`.
    pub handle: String,
    /// URL of the PDS, with or without scheme.
    pub service: String,
    /// Always null.
    pub prev: Option<String>,
    /// 64 bytes r‖s in base64url without padding.
    pub sig: String,
}

/// A service of a DID document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlcService {
    /// Its kind, such as `AtprotoPersonalDataServer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its URL.
    pub endpoint: String,
}

/// What a DID stands for after an operation; the input from which operations are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlcState {
    /// See [`Update::rotation_keys`].
    pub rotation_keys: Vec<String>,
    /// See [`Update::verification_methods`].
    pub verification_methods: BTreeMap<String, String>,
    /// See [`Update::also_known_as`].
    pub also_known_as: Vec<String>,
    /// See [`Update::services`].
    pub services: BTreeMap<String, PlcService>,
}

impl PlcState {
    /// The genesis operation for this state and the DID it makes. `key` has to be one of the rotation keys.
    pub fn genesis(self, key: &SigningKey) -> (Did, Operation) {
        let operation = self.signed(None, key);
        (operation.did(), operation)
    }

    /// The operation that puts this state after `prev`. `key` has to be a rotation key of `prev`.
    pub fn follow(self, prev: &Operation, key: &SigningKey) -> Operation {
        self.signed(Some(prev.cid().to_string()), key)
    }

    /// The operation that puts this state after `prev`, as JSON without `sig`: what somebody else, who has a rotation
    /// key of `prev`, is asked to sign and submit.
    pub fn unsigned(self, prev: &Operation) -> serde_json::Value {
        let operation = Operation::Update(self.update(Some(prev.cid().to_string())));
        let mut json =
            serde_json::to_value(operation).expect("strings, lists and maps of strings have a JSON form");
        if let Some(fields) = json.as_object_mut() {
            fields.remove("sig");
        }
        json
    }

    fn signed(self, prev: Option<String>, key: &SigningKey) -> Operation {
        Operation::Update(self.update(prev)).sign(key)
    }

    fn update(self, prev: Option<String>) -> Update {
        let Self { rotation_keys, verification_methods, also_known_as, services } = self;
        Update { rotation_keys, verification_methods, also_known_as, services, prev, sig: String::new() }
    }
}

impl Operation {
    /// The operation that gives the DID up after `prev`.
    pub fn tombstone(prev: &Self, key: &SigningKey) -> Self {
        Self::Tombstone(Tombstone { prev: prev.cid().to_string(), sig: String::new() }).sign(key)
    }

    fn sign(mut self, key: &SigningKey) -> Self {
        let signature = BASE64URL_NOPAD.encode(&key.sign(&self.unsigned_bytes()));
        match &mut self {
            Self::Update(Update { sig, .. })
            | Self::Tombstone(Tombstone { sig, .. })
            | Self::Create(LegacyCreate { sig, .. }) => *sig = signature,
        }
        self
    }

    /// The operation in DAG-CBOR, signature included: what its CID and, at genesis, the DID are the hash of.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_ipld_dagcbor::to_vec(self).expect("strings, lists and maps of strings have a CBOR form")
    }

    /// What is signed: the DAG-CBOR form without `sig`.
    fn unsigned_bytes(&self) -> Vec<u8> {
        let expectation = "strings, lists and maps of strings have an IPLD form";
        let mut ipld = ipld_core::serde::to_ipld(self).expect(expectation);
        if let ipld_core::ipld::Ipld::Map(map) = &mut ipld {
            map.remove("sig");
        }
        serde_ipld_dagcbor::to_vec(&ipld).expect(expectation)
    }

    /// The CID by which the next operation names this one.
    pub fn cid(&self) -> Cid {
        let hash = Multihash::wrap(0x12, &Sha256::digest(self.to_bytes())).expect("32 bytes fit into 64");
        Cid::new_v1(0x71, hash)
    }

    /// The DID that this operation makes if it is a genesis.
    pub fn did(&self) -> Did {
        let mut id = BASE32_NOPAD.encode(&Sha256::digest(self.to_bytes())[..15]);
        id.make_ascii_lowercase();
        format!("did:plc:{id}").parse().expect("24 base32 characters are a did:plc")
    }

    /// The CID of the operation before, `None` at genesis.
    pub fn prev(&self) -> Option<&str> {
        match self {
            Self::Update(update) => update.prev.as_deref(),
            Self::Tombstone(tombstone) => Some(&tombstone.prev),
            Self::Create(create) => create.prev.as_deref(),
        }
    }

    /// The state it sets, `None` for a tombstone. A legacy `create` is read as the update it would be today.
    pub fn state(&self) -> Option<PlcState> {
        match self {
            Self::Update(update) => Some(PlcState {
                rotation_keys: update.rotation_keys.clone(),
                verification_methods: update.verification_methods.clone(),
                also_known_as: update.also_known_as.clone(),
                services: update.services.clone(),
            }),
            Self::Tombstone(_) => None,
            Self::Create(create) => Some(create.state()),
        }
    }

    /// Which of `keys` made the signature: the index of the first that verifies it.
    ///
    /// The signature has to be 64 bytes with a low S, in base64url without padding and without stray bits.
    pub fn signer(&self, keys: &[String]) -> Result<usize, PlcError> {
        let (Self::Update(Update { sig, .. })
        | Self::Tombstone(Tombstone { sig, .. })
        | Self::Create(LegacyCreate { sig, .. })) = self;
        let signature = BASE64URL_NOPAD.decode(sig.as_bytes()).map_err(|_| PlcError::InvalidSignature)?;
        let message = self.unsigned_bytes();
        keys.iter()
            .position(|key| {
                PublicKey::from_did_key(key).is_ok_and(|key| key.verify(&message, &signature).is_ok())
            })
            .ok_or(PlcError::InvalidSignature)
    }
}

impl LegacyCreate {
    fn state(&self) -> PlcState {
        let handle = if self.handle.starts_with("at://") {
            self.handle.clone()
        } else {
            format!("at://{}", self.handle.trim_start_matches("http://").trim_start_matches("https://"))
        };
        let endpoint = if self.service.starts_with("http://") || self.service.starts_with("https://") {
            self.service.clone()
        } else {
            format!("https://{}", self.service)
        };
        let pds = PlcService { kind: "AtprotoPersonalDataServer".into(), endpoint };
        PlcState {
            rotation_keys: vec![self.recovery_key.clone(), self.signing_key.clone()],
            verification_methods: BTreeMap::from([("atproto".into(), self.signing_key.clone())]),
            also_known_as: vec![handle],
            services: BTreeMap::from([("atproto_pds".into(), pds)]),
        }
    }
}
