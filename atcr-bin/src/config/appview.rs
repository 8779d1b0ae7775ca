use std::path::PathBuf;
use std::time::Duration;

use atcr_auth::Network;
use atcr_core::syntax::Did;
use atcr_registry::hold_health::HoldHealthOptions;
use atcr_registry::ingest::{IngestOptions, Source};
use atcr_registry::web::{Brand, BrandError, Logo, RegistryDomain};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Config, ConfigError, Connections, Requests};
use crate::Error;

/// The settings of `atcr-appview`; the template `config/appview.yaml` says what each one is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppViewConfig {
    /// The server.
    pub server: Server,
    /// What the pages look like.
    pub ui: Ui,
    /// Who runs the registry.
    pub legal: Legal,
    /// Whether holds answer.
    pub health: Health,
    /// Tokens and sessions.
    pub auth: Auth,
    /// How identities are resolved.
    pub identity: Identity,
    /// The registry.
    pub registry: Registry,
    /// What is known of the network.
    pub index: Index,
    /// How that is kept current.
    pub ingest: Ingest,
    /// What requests may cost.
    pub requests: Requests,
    /// What connections may cost.
    pub connections: Connections,
    /// The log.
    pub log: super::Log,
    /// Who did what.
    pub audit: super::Audit,
}

/// The server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it listens.
    pub addr: String,
    /// The URL that clients reach it at.
    pub base_url: Option<Url>,
    /// What the registry calls itself where people are asked to let it in.
    pub client_name: String,
    /// What it calls itself where there is little room.
    pub client_short_name: Option<String>,
    /// The names that stand before those of images, the first one where nobody has chosen; without any it is that of
    /// the URL.
    pub registry_domains: Vec<RegistryDomain>,
    /// The hold that takes the blobs of people who have chosen none.
    pub default_hold_did: Option<Did>,
    /// The proxies in front, whose word is taken about where requests come from.
    pub trusted_proxies: Vec<Network>,
    /// Lets requests reach this machine: development only.
    pub test_mode: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            addr: ":5000".to_owned(),
            base_url: None,
            client_name: "AT Container Registry".to_owned(),
            client_short_name: None,
            registry_domains: Vec::new(),
            default_hold_did: None,
            trusted_proxies: Vec::new(),
            test_mode: false,
        }
    }
}

/// What the pages look like.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ui {
    /// The colour of links and buttons.
    pub accent_color: Option<String>,
    /// A file with the picture before the name.
    pub logo: Option<PathBuf>,
}

/// Who runs the registry.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Legal {
    /// The company or person.
    pub company_name: Option<String>,
    /// The terms of service.
    pub terms_url: Option<Url>,
    /// The privacy policy.
    pub privacy_url: Option<Url>,
}

/// Whether holds answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// How many seconds a hold is left alone between two questions; 0 asks none.
    pub interval_seconds: u64,
    /// How many seconds a hold may take to answer.
    pub timeout_seconds: u64,
    /// How many holds are asked at the same time.
    pub concurrency: usize,
    /// How many holds are asked at all.
    pub holds: usize,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval_seconds: 120, timeout_seconds: 5, concurrency: 8, holds: 500 }
    }
}

impl From<Health> for Option<HoldHealthOptions> {
    fn from(config: Health) -> Self {
        let mut options = HoldHealthOptions::default();
        options.interval = Duration::from_secs(config.interval_seconds);
        options.timeout = Duration::from_secs(config.timeout_seconds);
        options.concurrency = config.concurrency;
        options.holds = config.holds;
        (config.interval_seconds > 0).then_some(options)
    }
}

impl AppViewConfig {
    /// What the pages look like, with the file that the configuration names.
    pub(crate) fn brand(&self) -> Result<Brand, Error> {
        let bad = |key: &str, value: &str, reason: &BrandError| ConfigError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_string(),
        };
        let mut brand = Brand::new(&self.server.client_name);
        brand.short_name.clone_from(&self.server.client_short_name);
        if let Some(color) = &self.ui.accent_color {
            brand.accent = Some(color.parse().map_err(|e| bad("ui.accent_color", color, &e))?);
        }
        if let Some(path) = &self.ui.logo {
            let bytes = std::fs::read(path).map_err(Error::file(path, "read"))?;
            let logo = Logo::read(bytes).map_err(|e| bad("ui.logo", &path.display().to_string(), &e))?;
            brand.logo = Some(logo);
        }
        brand.company.clone_from(&self.legal.company_name);
        brand.terms = web_page("legal.terms_url", self.legal.terms_url.as_ref())?;
        brand.privacy = web_page("legal.privacy_url", self.legal.privacy_url.as_ref())?;
        Ok(brand)
    }
}

/// An address that pages may lead to.
fn web_page(key: &str, url: Option<&Url>) -> Result<Option<Url>, ConfigError> {
    match url {
        Some(url) if !matches!(url.scheme(), "https" | "http") => Err(ConfigError::Value {
            key: key.to_owned(),
            value: url.to_string(),
            reason: "it is no web page".to_owned(),
        }),
        url => Ok(url.cloned()),
    }
}

/// Tokens and sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Where keys and sessions are kept.
    pub data_dir: PathBuf,
    /// How many seconds a registry token is good for.
    pub token_seconds: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self { data_dir: PathBuf::from("/var/lib/atcr"), token_seconds: 300 }
    }
}

/// How identities are resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The PLC directory.
    pub plc_directory_url: Url,
    /// A service that resolves handles in place of the DNS.
    pub handle_resolver_url: Option<Url>,
}

impl Default for Identity {
    fn default() -> Self {
        let plc_directory_url = Url::parse("https://plc.directory").expect("a constant URL");
        Self { plc_directory_url, handle_resolver_url: None }
    }
}

/// The registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Sends clients to the storage for blobs.
    pub redirect_blobs: bool,
    /// Takes images some of whose blobs are not there.
    pub sparse_images: bool,
}

impl Default for Registry {
    fn default() -> Self {
        Self { redirect_blobs: true, sparse_images: false }
    }
}

/// What is known of the network.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The database; may have a password in it.
    pub url: Option<String>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("url", &self.url.as_ref().map(|_| "…")).finish()
    }
}

/// How the index is kept current.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// Relays that are followed.
    pub relays: Vec<Url>,
    /// PDSs and holds that are followed.
    pub hosts: Vec<Url>,
    /// Jetstream servers that are followed.
    pub jetstream: Vec<Url>,
    /// Whether they are asked to compress what they send.
    pub jetstream_compress: bool,
    /// How many repos are read whole at the same time.
    pub readers: usize,
    /// The largest repo that is read, in bytes.
    pub max_repo_size: u64,
    /// How many seconds a tag counts as current after its stream was last seen at work.
    pub freshness_seconds: u64,
}

impl Default for Ingest {
    fn default() -> Self {
        let none = Vec::new;
        Self {
            relays: none(),
            hosts: none(),
            jetstream: none(),
            jetstream_compress: true,
            readers: 4,
            max_repo_size: 1 << 30,
            freshness_seconds: 60,
        }
    }
}

impl From<Ingest> for IngestOptions {
    fn from(config: Ingest) -> Self {
        let mut options = Self::default();
        options.sources.extend(config.relays.into_iter().map(Source::Relay));
        options.sources.extend(config.hosts.into_iter().map(Source::Host));
        options.sources.extend(config.jetstream.into_iter().map(Source::Jetstream));
        options.jetstream_compress = config.jetstream_compress;
        options.readers = config.readers.max(1);
        options.max_repo_bytes = config.max_repo_size;
        options.freshness = Duration::from_secs(config.freshness_seconds);
        options
    }
}

impl Config for AppViewConfig {
    const ENV_PREFIX: &'static str = "ATCR";
    const ENV_ALIASES: &'static [(&'static str, &'static str)] = &[
        ("ATCR_HTTP_ADDR", "server.addr"),
        ("ATCR_BASE_URL", "server.base_url"),
        ("ATCR_CLIENT_NAME", "server.client_name"),
        ("ATCR_CLIENT_SHORT_NAME", "server.client_short_name"),
        ("ATCR_DEFAULT_HOLD_DID", "server.default_hold_did"),
        ("ATCR_TOKEN_EXPIRATION", "auth.token_seconds"),
        ("ATCR_RELAY_ENDPOINT", "ingest.relays"),
        ("JETSTREAM_URL", "ingest.jetstream"),
        ("TEST_MODE", "server.test_mode"),
    ];
    const TEMPLATE: &'static str = include_str!("../../config/appview.yaml");

    fn log(&self) -> &super::Log {
        &self.log
    }

    fn audit(&self) -> &super::Audit {
        &self.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brand_is_what_is_set_or_the_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let logo = dir.path().join("logo.svg");
        let mut config = AppViewConfig::default();
        assert_eq!(config.brand().unwrap().name, "AT Container Registry");
        config.ui.logo = Some(logo.clone());
        assert!(matches!(config.brand(), Err(Error::File { path, .. }) if path == logo));
        let named = |config: &AppViewConfig| match config.brand() {
            Err(Error::Config(ConfigError::Value { key, .. })) => key,
            other => panic!("{other:?}"),
        };
        std::fs::write(&logo, "no picture").unwrap();
        assert_eq!(named(&config), "ui.logo");
        std::fs::write(&logo, "<svg/>").unwrap();
        assert!(config.brand().unwrap().logo.is_some());
        config.ui.accent_color = Some("reddish".to_owned());
        assert_eq!(named(&config), "ui.accent_color");
        config.ui.accent_color = Some("#c00000".to_owned());
        config.legal.terms_url = Some("javascript:alert(1)".parse().unwrap());
        assert_eq!(named(&config), "legal.terms_url");
        config.legal.terms_url = Some("https://example.com/terms".parse().unwrap());
        assert!(config.brand().unwrap().accent.is_some());
    }

    #[test]
    fn no_hold_is_asked_where_that_is_off() {
        let mut health = Health::default();
        assert!(Option::<HoldHealthOptions>::from(health.clone()).is_some());
        health.interval_seconds = 0;
        assert!(Option::<HoldHealthOptions>::from(health).is_none());
    }
}
