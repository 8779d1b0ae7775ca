use std::sync::Arc;

use atcr_core::crypto::PublicKey;
use atcr_core::did_resolver::{
    CacheLimits, CachingResolver, DnsHandleResolver, IdentityResolver, NetworkResolver, PlcResolver,
    WebResolver,
};
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_hold::identity::{IdentityMethod, PlcIdentity};
use atcr_hold::{Hold, LegacyCrew, Tier, Tiers, TiersError, Verify};
use atcr_pds::Crawlers;
use atcr_pds::plc::HttpDirectory;
use url::Url;

use crate::Error;
use crate::config::{ConfigError, DidMethod, HoldConfig, Quota, TierConfig, VerifyMode};

use super::storage::StorageSettings;

/// What a hold is opened with.
pub(crate) struct Settings {
    pub(crate) hold: atcr_hold::HoldConfig,
    pub(crate) storage: StorageSettings,
    pub(crate) egress: Egress,
    pub(crate) plc_url: Url,
    pub(crate) legacy_crew: bool,
}

fn tiers(quota: Quota) -> Result<Tiers, ConfigError> {
    let tier = |tier: TierConfig| Tier {
        name: tier.name,
        limit: tier.quota.map(|quota| quota.0),
        features: tier.features,
    };
    let tiers = quota.tiers.into_iter().map(tier).collect();
    Tiers::new(tiers, quota.defaults.new_crew_tier.as_deref()).map_err(|error| {
        let (key, value) = match &error {
            TiersError::NoDefault(name) => ("quota.defaults.new_crew_tier", name.clone()),
            _ => ("quota.tiers", "what it is set to".to_owned()),
        };
        ConfigError::Value { key: key.to_owned(), value, reason: error.to_string() }
    })
}

impl Settings {
    /// The settings of a configuration.
    pub(crate) fn new(config: HoldConfig) -> Result<Self, Error> {
        let HoldConfig {
            server,
            registration,
            database,
            storage,
            verify,
            quota,
            connections: _,
            log: _,
            audit: _,
        } = config;
        let public_url = server.public_url.ok_or(ConfigError::Required {
            key: "server.public_url",
            purpose: "the URL that everybody reaches the hold at",
            env: "HOLD_SERVER_PUBLIC_URL",
        })?;
        let owner = registration.owner_did.ok_or(ConfigError::Required {
            key: "registration.owner_did",
            purpose: "the DID of the hold's captain",
            env: "HOLD_REGISTRATION_OWNER_DID",
        })?;
        let policy = if server.test_mode { EgressPolicy::development() } else { EgressPolicy::default() };
        let egress = Egress::new(policy).map_err(Error::start("the egress gate"))?;
        let max_blob_size = storage.max_blob_size;
        let storage = StorageSettings::new(storage, &database.path)?;
        let mut hold = atcr_hold::HoldConfig::new(public_url, database.path, owner);
        hold.signing_key = database.key_path;
        hold.public = server.public;
        hold.allow_all_crew = registration.allow_all_crew;
        hold.region = registration.region;
        hold.max_blob_size = max_blob_size;
        hold.verification.when = match verify.mode {
            VerifyMode::Sync => Verify::Sync,
            VerifyMode::Background => Verify::Background,
            VerifyMode::Trust => Verify::Trust,
        };
        hold.verification.parallel = verify.parallel;
        hold.verification.rate = verify.rate;
        hold.tiers = tiers(quota)?;
        hold.appview = server.appview_did;
        hold.replicas = server.replicas;
        if !server.relays.is_empty() {
            hold.crawlers = Some(Crawlers::new(egress.clone(), &hold.public_url, server.relays));
        }
        let wrong = |key: &str, value: &dyn ToString, reason: &str| ConfigError::Value {
            key: key.to_owned(),
            value: value.to_string(),
            reason: reason.to_owned(),
        };
        match database.did_method {
            DidMethod::Web => {
                if let Some(did) = &database.did {
                    let reason = "a did:web is made of server.public_url; set database.did_method to plc to \
                                  give the hold a did:plc that exists already";
                    return Err(wrong("database.did", did, reason).into());
                }
            }
            DidMethod::Plc => {
                let directory = HttpDirectory::new(egress.clone(), database.plc_directory_url.clone());
                let mut plc = PlcIdentity::new(Arc::new(directory));
                plc.did = database.did;
                plc.rotation_key = database.rotation_key_path;
                plc.recovery_key = match database.recovery_key {
                    Some(key) => Some(
                        PublicKey::from_did_key(&key)
                            .map_err(|e| wrong("database.recovery_key", &key, &e.to_string()))?,
                    ),
                    None => None,
                };
                hold.identity = IdentityMethod::Plc(plc);
            }
        }
        Ok(Self {
            hold,
            storage,
            egress,
            plc_url: database.plc_directory_url,
            legacy_crew: registration.legacy_crew,
        })
    }

    /// Opens the hold.
    pub(crate) async fn open(self) -> Result<Hold, Error> {
        let Self { mut hold, storage, egress, plc_url, legacy_crew } = self;
        let network =
            NetworkResolver::new(PlcResolver::new(egress.clone(), plc_url), WebResolver::new(egress.clone()));
        let resolver = Arc::new(CachingResolver::new(network, CacheLimits::default()));
        if legacy_crew {
            let handles = DnsHandleResolver::from_system(egress.clone());
            let handles = Arc::new(handles.map_err(Error::start("the DNS resolver"))?);
            hold.legacy_crew =
                Some(LegacyCrew::new(IdentityResolver::new(resolver.clone(), handles), egress));
        }
        hold.storage = storage.open().await?;
        Hold::open(hold, resolver).await.map_err(Error::start("the hold"))
    }
}
