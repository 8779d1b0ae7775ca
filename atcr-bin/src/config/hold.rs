use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

use atcr_auth::Network;
use atcr_core::syntax::Did;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Audit, Config, Connections, Size};

/// The settings of `atcr-hold`; the template `config/hold.yaml` says what each one is for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldConfig {
    /// The server.
    pub server: Server,
    /// Whose hold it is.
    pub registration: Registration,
    /// The hold's own data.
    pub database: Database,
    /// Where the blobs go.
    pub storage: Storage,
    /// When blobs are verified that did not come through the hold.
    pub verify: Verify,
    /// How much members may store.
    pub quota: Quota,
    /// What connections may cost.
    pub connections: Connections,
    /// The log.
    pub log: Log,
    /// Who did what.
    pub audit: Audit,
}

/// The server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it listens.
    pub addr: String,
    /// The URL that everybody reaches it at; a did:web is made of it.
    pub public_url: Option<Url>,
    /// Whether anybody may read.
    pub public: bool,
    /// Relays that are asked to follow the hold.
    pub relays: Vec<Url>,
    /// The AppView that may set the tiers of members.
    pub appview_did: Option<Did>,
    /// Whether several processes are this hold together.
    pub replicas: bool,
    /// The proxies in front, whose word is taken about where requests come from.
    pub trusted_proxies: Vec<Network>,
    /// Lets requests reach this machine: development only.
    pub test_mode: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            addr: ":8080".to_owned(),
            public_url: None,
            public: false,
            relays: Vec::new(),
            appview_did: None,
            replicas: false,
            trusted_proxies: Vec::new(),
            test_mode: false,
        }
    }
}

/// Whose hold it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The captain.
    pub owner_did: Option<Did>,
    /// Whether everybody with an account may become crew by themselves.
    pub allow_all_crew: bool,
    /// Whether crew records in the owner's own repo count, as holds of 2025 had them.
    pub legacy_crew: bool,
    /// Where the hold stands, for people to know.
    pub region: Option<String>,
}

/// The hold's own data.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The folder of the repo, the upload ledger and the keys.
    pub path: PathBuf,
    /// The file of the key that signs the repo.
    pub key_path: Option<PathBuf>,
    /// How the hold is named.
    pub did_method: DidMethod,
    /// A did:plc that exists already.
    pub did: Option<Did>,
    /// The PLC directory, where the DIDs of the crew are resolved, and the hold's own is registered.
    pub plc_directory_url: Url,
    /// The file of the key that signs operations of the hold's did:plc.
    pub rotation_key_path: Option<PathBuf>,
    /// A rotation key of the operator's (did:key) that stands before the hold's.
    pub recovery_key: Option<String>,
}

/// How a hold is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DidMethod {
    /// did:web, made of the public URL.
    #[default]
    Web,
    /// did:plc, kept in a directory.
    Plc,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/atcr-hold"),
            key_path: None,
            did_method: DidMethod::Web,
            did: None,
            plc_directory_url: Url::parse("https://plc.directory").expect("a constant URL"),
            rotation_key_path: None,
            recovery_key: None,
        }
    }
}

/// Where the blobs go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// What keeps them; when it is not set, S3 where there is a bucket, else files.
    pub driver: Option<StorageDriver>,
    /// The folder of the blobs.
    pub root_dir: Option<PathBuf>,
    /// The size of a blob in bytes.
    pub max_blob_size: Option<u64>,
    /// The bucket.
    pub bucket: Option<String>,
    /// What all keys in the bucket begin with.
    pub prefix: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// The root of the service.
    pub endpoint: Option<Url>,
    /// Where the name of the bucket stands in URLs.
    pub addressing: Addressing,
    /// The id of the access key.
    pub access_key: Option<String>,
    /// Its secret.
    pub secret_key: Option<Secret>,
    /// What comes with a temporary access key.
    pub session_token: Option<Secret>,
    /// The storage account of Azure.
    pub account: Option<String>,
    /// One of its keys.
    pub account_key: Option<Secret>,
    /// Whether clients get signed URLs of the storage.
    pub presign: bool,
    /// A CDN in front of the bucket.
    pub pull_zone: Option<Url>,
    /// For how long a blob keeps its signed URL.
    pub url_window_seconds: u64,
    /// Where completed blobs stand.
    pub layout: Layout,
    /// The size of a part in bytes.
    pub part_size: u64,
    /// Where parts are gathered whose size is not known.
    pub spool_dir: Option<PathBuf>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            driver: None,
            root_dir: None,
            max_blob_size: None,
            bucket: None,
            prefix: None,
            region: None,
            endpoint: None,
            addressing: Addressing::default(),
            access_key: None,
            secret_key: None,
            session_token: None,
            account: None,
            account_key: None,
            presign: true,
            pull_zone: None,
            url_window_seconds: 900,
            layout: Layout::default(),
            part_size: 16 * 1024 * 1024,
            spool_dir: None,
        }
    }
}

/// What keeps the blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDriver {
    /// Files in a folder.
    Filesystem,
    /// S3, or a service that speaks its protocol.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// Where the name of the bucket stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// In the path where an endpoint is set, else in the host.
    #[default]
    Automatic,
    /// In the path.
    Path,
    /// In the host.
    VirtualHost,
}

/// Where completed blobs stand in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Where they were uploaded.
    #[default]
    Uploaded,
    /// Where CNCF distribution would have them.
    Distribution,
}

/// A setting that is not printed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// When blobs are verified that did not come through the hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// When.
    pub mode: VerifyMode,
    /// How many blobs are read back at the same time.
    pub parallel: usize,
    /// How many bytes a second each of them may take.
    pub rate: Option<NonZeroU64>,
}

impl Default for Verify {
    fn default() -> Self {
        Self { mode: VerifyMode::Background, parallel: 2, rate: None }
    }
}

/// When blobs are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyMode {
    /// Before an upload is acknowledged.
    Sync,
    /// Soon afterwards.
    #[default]
    Background,
    /// Never.
    Trust,
}

/// How much members may store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The tiers, lowest first.
    pub tiers: Vec<Tier>,
    /// What is true where a crew record does not say.
    pub defaults: QuotaDefaults,
}

/// A tier.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Its name, as crew records have it.
    pub name: String,
    /// How much its members may store, such as `5 GB`; none is any amount.
    #[serde(default)]
    pub quota: Option<Size>,
    /// What else it gives, for people to read.
    #[serde(default)]
    pub features: Vec<String>,
}

/// What is true where a crew record does not say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaDefaults {
    /// The tier of members whose record names none.
    pub new_crew_tier: Option<String>,
}

/// The log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, also per module.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Config for HoldConfig {
    const ENV_PREFIX: &'static str = "HOLD";
    const ENV_ALIASES: &'static [(&'static str, &'static str)] = &[
        ("HOLD_PUBLIC_URL", "server.public_url"),
        ("HOLD_PUBLIC", "server.public"),
        ("HOLD_OWNER", "registration.owner_did"),
        ("HOLD_ALLOW_ALL_CREW", "registration.allow_all_crew"),
        ("HOLD_DATABASE_DIR", "database.path"),
        ("HOLD_KEY_PATH", "database.key_path"),
        ("STORAGE_DRIVER", "storage.driver"),
        ("STORAGE_ROOT_DIR", "storage.root_dir"),
        ("S3_BUCKET", "storage.bucket"),
        ("S3_ENDPOINT", "storage.endpoint"),
        ("AWS_REGION", "storage.region"),
        ("AWS_ACCESS_KEY_ID", "storage.access_key"),
        ("AWS_SECRET_ACCESS_KEY", "storage.secret_key"),
        ("AWS_SESSION_TOKEN", "storage.session_token"),
        ("AZURE_STORAGE_ACCOUNT", "storage.account"),
        ("AZURE_STORAGE_KEY", "storage.account_key"),
        ("DISABLE_PRESIGNED_URLS", "!storage.presign"),
        ("TEST_MODE", "server.test_mode"),
    ];
    const TEMPLATE: &'static str = include_str!("../../config/hold.yaml");

    fn log(&self) -> &Log {
        &self.log
    }

    fn audit(&self) -> &Audit {
        &self.audit
    }
}
