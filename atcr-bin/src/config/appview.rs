use std::path::PathBuf;
use std::time::Duration;

use atcr_auth::Network;
use atcr_core::syntax::Did;
use atcr_registry::ingest::{IngestOptions, Source};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Config, Connections, Requests};

/// The settings of `atcr-appview`; the template `config/appview.yaml` says what each one is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppViewConfig {
    /// The server.
    pub server: Server,
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
            default_hold_did: None,
            trusted_proxies: Vec::new(),
            test_mode: false,
        }
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
