use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atcr_core::crypto::{PublicKey, SigningKey};
use atcr_core::syntax::{Did, DidMethod};
use atcr_pds::plc::{Operation, PlcDirectory, PlcError, PlcState, did_document, validate_log};
use serde::Serialize;
use serde_json::{Value, json};

use super::durable::{self, Readers};
use super::{Address, IdentityError, PlcIdentity, key_file};
use crate::HoldError;

/// The DID, once the directory has it.
const DID_FILE: &str = "did.txt";
/// The operation that makes the DID, written before anybody sees it.
const GENESIS_FILE: &str = "plc-genesis.json";
const ROTATION_KEY: &str = "rotation.key";
/// Updates that are tried when others change the DID at the same time.
const TRIES: usize = 3;

/// The did:plc of a hold, and what its document is to say.
pub(crate) struct PlcAccount {
    did: Did,
    directory: Arc<dyn PlcDirectory>,
    address: Address,
    signing_key: PublicKey,
    recovery_key: Option<PublicKey>,
    rotation_key: Option<SigningKey>,
    rotation_path: PathBuf,
    did_path: PathBuf,
    genesis_path: PathBuf,
    /// Present when the DID was made here.
    genesis: Option<Operation>,
    /// Whether the directory has had the DID before.
    known: bool,
    /// Another key that may sign, and keys that are to go: what an operator asks for.
    sign_with: Option<SigningKey>,
    drop: Vec<String>,
}

/// What a directory has for a DID, after its log was checked from the DID on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) state: PlcState,
    last: Operation,
}

/// Something that the directory's entry says otherwise than the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which field of the operation: `services.atproto_pds`, `alsoKnownAs`.
    pub field: String,
    /// What the directory has; null for nothing.
    pub directory: Value,
    /// What the hold is.
    pub hold: Value,
}

impl Difference {
    /// Whether the hold cannot be found or verified while it lasts.
    pub fn is_essential(&self) -> bool {
        !matches!(self.field.as_str(), "alsoKnownAs" | "rotationKeys")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Value| match value {
            Value::Null => "nothing".to_owned(),
            Value::String(text) => text.clone(),
            Value::Object(fields) => fields.get("endpoint").map_or_else(
                || value.to_string(),
                |endpoint| endpoint.as_str().unwrap_or_default().to_owned(),
            ),
            other => other.to_string(),
        };
        write!(f, "{} is {}, not {}", self.field, show(&self.directory), show(&self.hold))
    }
}

impl PlcAccount {
    /// The DID of the configuration, or else the one in the data directory, or else a new one. Writes files only.
    pub(crate) fn open(
        data_dir: &Path,
        plc: &PlcIdentity,
        address: Address,
        signing_key: PublicKey,
    ) -> Result<Self, HoldError> {
        if let Some(account) = Self::find(data_dir, plc, address.clone(), signing_key.clone())? {
            return Ok(account);
        }
        let rotation_key = key_file::rotation_key(&rotation_path(data_dir, plc))?;
        let own = rotation_key.public_key();
        let state = PlcState {
            rotation_keys: plc.recovery_key.iter().chain([&own]).map(PublicKey::to_did_key).collect(),
            verification_methods: [("atproto".to_owned(), signing_key.to_did_key())].into(),
            also_known_as: address.handle().map(|handle| format!("at://{handle}")).into_iter().collect(),
            services: address.services(),
        };
        let (_, genesis) = state.genesis(&rotation_key);
        // Before the directory sees it: a process that dies now goes on with the same identity.
        durable::create(&data_dir.join(GENESIS_FILE), &serde_json::to_vec_pretty(&genesis)?, Readers::All)?;
        Self::find(data_dir, plc, address, signing_key)?.ok_or_else(|| IdentityError::None.into())
    }

    /// As [`PlcAccount::open`], but `None` when there is no DID yet. Writes nothing.
    pub(crate) fn find(
        data_dir: &Path,
        plc: &PlcIdentity,
        address: Address,
        signing_key: PublicKey,
    ) -> Result<Option<Self>, HoldError> {
        let (did_path, genesis_path) = (data_dir.join(DID_FILE), data_dir.join(GENESIS_FILE));
        let stored = match durable::read(&did_path)? {
            Some(bytes) => {
                let damaged = || IdentityError::Damaged { path: did_path.clone(), what: "a DID" };
                let text = std::str::from_utf8(&bytes).unwrap_or_default();
                Some(text.trim().parse::<Did>().map_err(|_| damaged())?)
            }
            None => None,
        };
        let genesis = match durable::read(&genesis_path)? {
            Some(bytes) => {
                let damaged =
                    |_| IdentityError::Damaged { path: genesis_path.clone(), what: "a PLC operation" };
                Some(serde_json::from_slice::<Operation>(&bytes).map_err(damaged)?)
            }
            None => None,
        };
        let known = stored.is_some();
        let did = match (&plc.did, stored) {
            (Some(configured), Some(stored)) if *configured != stored => {
                let configured = configured.clone();
                return Err(IdentityError::OtherDid { path: did_path, stored, configured }.into());
            }
            (Some(did), _) => did.clone(),
            (None, Some(did)) => did,
            (None, None) => match &genesis {
                Some(genesis) => genesis.did(),
                None => return Ok(None),
            },
        };
        if did.method() != DidMethod::Plc {
            return Err(IdentityError::NotPlc { did }.into());
        }
        let rotation_path = rotation_path(data_dir, plc);
        Ok(Some(Self {
            genesis: genesis.filter(|genesis| genesis.did() == did),
            directory: Arc::clone(&plc.directory),
            address,
            signing_key,
            recovery_key: plc.recovery_key.clone(),
            rotation_key: key_file::key(&rotation_path)?,
            rotation_path,
            did_path,
            genesis_path,
            known,
            did,
            sign_with: None,
            drop: Vec::new(),
        }))
    }

    pub(crate) fn did(&self) -> &Did {
        &self.did
    }

    /// Whether the directory has had the DID before.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn rotation_key(&self) -> Option<PublicKey> {
        self.rotation_key.as_ref().map(SigningKey::public_key)
    }

    /// Lets another key sign too, and takes rotation keys out.
    pub(crate) fn order(&mut self, sign_with: Option<SigningKey>, drop: Vec<String>) {
        self.sign_with = sign_with;
        self.drop = drop;
    }

    /// Remembers that the directory has the DID.
    pub(crate) fn remember(&self) -> Result<(), HoldError> {
        if !self.known {
            durable::create(&self.did_path, format!("{}\n", self.did).as_bytes(), Readers::All)?;
        }
        Ok(())
    }

    /// What the directory has. A log that does not follow from the DID by signatures is not believed.
    pub(crate) async fn state(&self) -> Result<State, IdentityError> {
        let log = self.directory.audit_log(&self.did).await.map_err(|source| self.failed(source))?;
        let untrue = |source| IdentityError::Untrue { did: self.did.clone(), source };
        let state = validate_log(&self.did, &log).map_err(untrue)?;
        let state = state.ok_or_else(|| IdentityError::Tombstoned { did: self.did.clone() })?;
        let last = log.into_iter().rev().find(|entry| !entry.nullified).map(|entry| entry.operation);
        Ok(State { state, last: last.ok_or_else(|| untrue(PlcError::Misordered))? })
    }

    /// As [`PlcAccount::state`]; the DID that was made here is registered if the directory does not have it.
    async fn registered(&self) -> Result<State, IdentityError> {
        match (self.state().await, &self.genesis) {
            (Err(IdentityError::NotRegistered { .. }), Some(genesis)) => {
                match self.directory.submit(&self.did, genesis).await {
                    // Somebody has submitted it before: a process that was killed, or whose answer was lost.
                    Ok(()) | Err(PlcError::Misordered) => {}
                    Err(source @ PlcError::Unavailable(_)) => return Err(self.failed(source)),
                    Err(source) => {
                        let (did, path) = (self.did.clone(), self.genesis_path.clone());
                        return Err(IdentityError::GenesisRefused { did, path, source });
                    }
                }
                tracing::info!(did = %self.did, "the identity is registered");
                self.state().await
            }
            (state, _) => state,
        }
    }

    /// Sees to it that the directory has what the hold is: registers the DID if need be, and signs an update where
    /// they differ. What cannot be signed here and does no harm is logged only.
    pub(crate) async fn settle(&self) -> Result<State, IdentityError> {
        for _ in 0..TRIES {
            let state = self.registered().await?;
            let wanted = self.wanted(&state.state);
            let differences = differences(&state.state, &wanted);
            if differences.is_empty() {
                return Ok(state);
            }
            if wanted.rotation_keys.is_empty() {
                return Err(IdentityError::NoRotationKey { did: self.did.clone() });
            }
            let Some(key) = self.signer(&state.state) else {
                let reason = self.why_not();
                if self.drop.is_empty() && !differences.iter().any(Difference::is_essential) {
                    for difference in &differences {
                        tracing::warn!(did = %self.did, %difference, %reason, "the document is not up to date");
                    }
                    return Ok(state);
                }
                let operation = wanted.unsigned(&state.last);
                return Err(IdentityError::NeedsSignature {
                    did: self.did.clone(),
                    differences,
                    reason,
                    operation,
                });
            };
            let last = wanted.clone().follow(&state.last, key);
            match self.directory.submit(&self.did, &last).await {
                Ok(()) => {
                    for difference in &differences {
                        tracing::info!(did = %self.did, %difference, "the document is brought up to date");
                    }
                    return Ok(State { state: wanted, last });
                }
                // Somebody was faster; what is there now may be right.
                Err(PlcError::Misordered) => {}
                Err(source @ PlcError::Unavailable(_)) => return Err(self.failed(source)),
                Err(source) => return Err(IdentityError::Refused { did: self.did.clone(), source }),
            }
        }
        Err(IdentityError::Refused { did: self.did.clone(), source: PlcError::Misordered })
    }

    /// How the entry would be brought up to date: what differs, the operation, and whether it can be signed here.
    pub(crate) fn proposal(&self, state: &State) -> (Vec<Difference>, Option<Value>, bool) {
        let wanted = self.wanted(&state.state);
        let differences = differences(&state.state, &wanted);
        let operation = (!differences.is_empty()).then(|| wanted.unsigned(&state.last));
        (differences, operation, self.signer(&state.state).is_some())
    }

    /// The document that the directory renders in a state.
    pub(crate) fn document(&self, state: &State) -> Value {
        did_document(&self.did, &state.state)
    }

    fn failed(&self, source: PlcError) -> IdentityError {
        let did = self.did.clone();
        match source {
            PlcError::NotRegistered(_) => IdentityError::NotRegistered { did },
            PlcError::Tombstoned(_) => IdentityError::Tombstoned { did },
            source => IdentityError::Unavailable { did, source },
        }
    }

    /// The key here that may sign the next operation.
    fn signer(&self, state: &PlcState) -> Option<&SigningKey> {
        let here = self.sign_with.iter().chain(&self.rotation_key);
        here.into_iter().find(|key| state.rotation_keys.contains(&key.public_key().to_did_key()))
    }

    fn why_not(&self) -> String {
        match self.rotation_key() {
            None => format!("there is no rotation key in {}", self.rotation_path.display()),
            Some(key) => {
                let path = self.rotation_path.display();
                format!("the key in {path}, {key:?}, is not one of its rotation keys")
            }
        }
    }

    /// The state with what the hold has to say put in; the rest stays as it is.
    fn wanted(&self, current: &PlcState) -> PlcState {
        let mut wanted = current.clone();
        wanted.verification_methods.insert("atproto".to_owned(), self.signing_key.to_did_key());
        wanted.services.extend(self.address.services());
        let handle = self.address.handle().map(|handle| format!("at://{handle}"));
        let names = &mut wanted.also_known_as;
        if names.iter().find(|name| name.starts_with("at://")) != handle.as_ref() {
            // The first is the handle; it is the old one's place that the new one takes.
            let at = names.iter().position(|name| name.starts_with("at://"));
            let at = at.inspect(|at| drop(names.remove(*at))).unwrap_or(0);
            if let Some(handle) = handle {
                names.retain(|name| *name != handle);
                names.insert(at.min(names.len()), handle);
            }
        }
        let keys = &mut wanted.rotation_keys;
        if let Some(recovery) = self.recovery_key.as_ref().map(PublicKey::to_did_key)
            && keys.first() != Some(&recovery)
        {
            keys.retain(|key| *key != recovery);
            keys.insert(0, recovery);
        }
        if let Some(own) = self.rotation_key().map(|key| key.to_did_key())
            && !keys.contains(&own)
        {
            keys.push(own);
        }
        keys.retain(|key| !self.drop.contains(key));
        wanted
    }
}

fn rotation_path(data_dir: &Path, plc: &PlcIdentity) -> PathBuf {
    plc.rotation_key.clone().unwrap_or_else(|| data_dir.join(ROTATION_KEY))
}

fn differences(directory: &PlcState, hold: &PlcState) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field: String, directory: Value, hold: Value| {
        if directory != hold {
            found.push(Difference { field, directory, hold });
        }
    };
    for (name, key) in &hold.verification_methods {
        let there = directory.verification_methods.get(name);
        compare(format!("verificationMethods.{name}"), json!(there), json!(key));
    }
    for (name, service) in &hold.services {
        compare(format!("services.{name}"), json!(directory.services.get(name)), json!(service));
    }
    compare("alsoKnownAs".to_owned(), json!(directory.also_known_as), json!(hold.also_known_as));
    compare("rotationKeys".to_owned(), json!(directory.rotation_keys), json!(hold.rotation_keys));
    found
}
