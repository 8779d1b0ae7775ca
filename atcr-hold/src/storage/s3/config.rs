use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use atcr_auth::Clock;
use url::Url;

use super::super::{Layout, ObjectKey};

/// Which bucket, and how it is reached.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with. Default: nothing.
    pub prefix: Option<ObjectKey>,
    /// The region. Default: that of the chain of credentials, else `us-east-1`.
    pub region: Option<String>,
    /// The root of the service. Default: that of AWS in the region.
    pub endpoint: Option<Url>,
    /// Where the name of the bucket stands.
    pub addressing: Addressing,
    /// Who the hold is towards the storage.
    pub credentials: S3Credentials,
    /// Whether others get signed URLs. Without them all bytes pass through the hold, streamed. Default: yes.
    pub presign: bool,
    /// A CDN in front of the bucket: its scheme, host and path stand in the URLs that blobs are read at, in place of
    /// the storage's. They are signed for the storage, so the CDN must ask the storage under the storage's own name
    /// and pass the query on. Parts never go there.
    pub pull_zone: Option<Url>,
    /// For how long the same object has the same signed URL, so that a CDN can keep it. A URL is good for so much
    /// longer. Default: 15 minutes.
    pub url_window: Duration,
    /// Where completed blobs stand. Default: where they were uploaded.
    pub layout: Layout,
    /// The size of the parts of an upload in bytes. Default: 16 MiB.
    pub part_size: u64,
    /// The greatest object that the storage copies in one request, in bytes. Default: 5 GiB, as S3 has it.
    pub copy_limit: u64,
    /// Where parts are gathered that are sent through the hold in chunked transfer coding, because S3 wants to know a
    /// part's size first. Each takes its size there while it is on its way. Default: the system's folder for such
    /// files.
    pub spool_dir: PathBuf,
    /// How long a request that carries no blob may take, tries again included. Default: 60 seconds.
    pub timeout: Duration,
    /// The time, for the windows of URLs. Default: the system's clock.
    pub clock: Clock,
}

/// Where the name of the bucket stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// In the path where [`S3Config::endpoint`] is set, else in the host.
    #[default]
    Automatic,
    /// `https://storage.example/bucket/key`
    Path,
    /// `https://bucket.storage.example/key`
    VirtualHost,
}

/// Who the hold is towards the storage.
#[derive(Clone, Default)]
pub enum S3Credentials {
    /// As the command line of AWS finds them: the environment, its files, single sign-on, the role of the container
    /// or of the machine. This reads the environment and asks the network.
    #[default]
    Chain,
    /// An access key.
    Static {
        /// Its public half.
        access_key_id: String,
        /// Its secret half.
        secret_access_key: String,
        /// What comes with a temporary one.
        session_token: Option<String>,
    },
}

impl S3Config {
    /// A bucket on AWS with the defaults.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: None,
            region: None,
            endpoint: None,
            addressing: Addressing::default(),
            credentials: S3Credentials::default(),
            presign: true,
            pull_zone: None,
            url_window: Duration::from_secs(15 * 60),
            layout: Layout::default(),
            part_size: 16 << 20,
            copy_limit: 5 << 30,
            spool_dir: std::env::temp_dir(),
            timeout: Duration::from_secs(60),
            clock: Clock::system(),
        }
    }

    /// A bucket of Google Cloud Storage, whose XML API speaks this protocol: by an HMAC key, at Google's own root. Google
    /// copies an object of any size at once, and knows no copy of a range.
    #[cfg(feature = "gcs")]
    pub fn google(bucket: impl Into<String>, key: S3Credentials) -> Self {
        let mut config = Self::new(bucket);
        config.region = Some("auto".to_owned());
        config.endpoint = Some(Url::parse("https://storage.googleapis.com").expect("a constant URL"));
        config.credentials = key;
        config.copy_limit = u64::MAX;
        config
    }

    pub(super) fn path_style(&self) -> bool {
        match self.addressing {
            Addressing::Automatic => self.endpoint.is_some(),
            Addressing::Path => true,
            Addressing::VirtualHost => false,
        }
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("Chain"),
            Self::Static { access_key_id, .. } => {
                f.debug_struct("Static").field("access_key_id", access_key_id).finish_non_exhaustive()
            }
        }
    }
}
