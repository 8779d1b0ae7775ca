//! What is behind the hold.

use atcr_hold::storage::{S3Config, S3Credentials};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use url::Url;

use crate::hold::Process;
use crate::{MIB, Options};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackEnd {
    /// An S3 server in the memory of this process.
    StrictS3,
    /// The bucket at `--endpoint`.
    S3,
    /// Files; every byte passes through the hold.
    Filesystem,
}

impl BackEnd {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::StrictS3 => "strict-s3",
            Self::S3 => "s3",
            Self::Filesystem => "filesystem",
        }
    }
}

/// How a bucket is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bucket {
    endpoint: Url,
    name: String,
    region: String,
    access_key: String,
    secret_key: String,
    part_size: u64,
}

impl Bucket {
    pub(crate) fn config(&self) -> S3Config {
        let mut config = S3Config::new(&self.name);
        config.endpoint = Some(self.endpoint.clone());
        config.region = Some(self.region.clone());
        config.part_size = self.part_size;
        config.credentials = S3Credentials::Static {
            access_key_id: self.access_key.clone(),
            secret_access_key: self.secret_key.clone(),
            session_token: None,
        };
        config
    }
}

/// A hold and what is behind it.
pub(crate) struct World {
    pub(crate) back_end: BackEnd,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) server: Option<strict_s3::Server>,
    pub(crate) hold: Process,
    _directory: TempDir,
}

impl World {
    pub(crate) async fn start(options: &Options, back_end: BackEnd) -> Self {
        let directory = match &options.directory {
            Some(parent) => tempfile::tempdir_in(parent).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        let part_size = options.part_size * MIB;
        let mut server = None;
        let bucket = match back_end {
            BackEnd::Filesystem => None,
            BackEnd::StrictS3 => {
                let started = strict_s3::Server::start(strict_s3::Rules::default()).await;
                let endpoint = started.endpoint().parse().unwrap();
                server = Some(started);
                Some(Bucket {
                    endpoint,
                    name: strict_s3::BUCKET.to_owned(),
                    region: strict_s3::REGION.to_owned(),
                    access_key: strict_s3::ACCESS_KEY.to_owned(),
                    secret_key: strict_s3::SECRET_KEY.to_owned(),
                    part_size,
                })
            }
            BackEnd::S3 => Some(Bucket {
                endpoint: options.endpoint.clone().expect("--back-end s3 needs --endpoint"),
                name: options.bucket.clone(),
                region: options.region.clone(),
                access_key: options.access_key.clone(),
                secret_key: options.secret_key.clone(),
                part_size,
            }),
        };
        let hold = Process::start(directory.path(), bucket.clone(), options.verify).await;
        Self { back_end, bucket, server, hold, _directory: directory }
    }

    /// Bytes of requests and answers between the hold and the storage so far, where the storage counts; for each
    /// request a kibibyte of headers either way.
    pub(crate) fn storage_traffic(&self) -> Option<u64> {
        let requests = self.server.as_ref()?.requests();
        let own = requests.iter().filter(|request| !request.presigned);
        Some(own.map(|request| request.received + request.sent + 2048).sum())
    }
}
