use std::path::{Path, PathBuf};
use std::sync::Arc;

use atcr_hold::storage::{FilesystemStorage, ObjectStorage};

use crate::Error;
use crate::config::{ConfigError, Storage, StorageDriver};

/// Where a hold keeps its blobs.
#[derive(Debug, Clone)]
pub(crate) enum StorageSettings {
    /// In this folder, or in one of the hold's own.
    Filesystem(Option<PathBuf>),
    /// In S3.
    #[cfg(feature = "s3")]
    S3(Box<atcr_hold::storage::S3Config>),
}

impl StorageSettings {
    /// The settings of a configuration; `data_dir` is the hold's own folder.
    pub(crate) fn new(storage: Storage, data_dir: &Path) -> Result<Self, ConfigError> {
        let driver = storage.driver.unwrap_or(match &storage.bucket {
            Some(_) => StorageDriver::S3,
            None => StorageDriver::Filesystem,
        });
        match driver {
            StorageDriver::Filesystem => Ok(Self::Filesystem(storage.root_dir)),
            #[cfg(feature = "s3")]
            StorageDriver::S3 => s3::settings(storage, data_dir).map(|config| Self::S3(Box::new(config))),
            #[cfg(not(feature = "s3"))]
            StorageDriver::S3 => {
                let _ = data_dir;
                Err(not_built("s3"))
            }
        }
    }

    /// What tells it from other storages. Two layouts of one bucket are one storage.
    pub(crate) fn name(&self, data_dir: &Path) -> String {
        match self {
            Self::Filesystem(folder) => {
                let folder = folder.clone().unwrap_or_else(|| data_dir.join("storage"));
                let folder = folder.canonicalize().unwrap_or(folder);
                format!("filesystem {}", folder.display())
            }
            #[cfg(feature = "s3")]
            Self::S3(config) => {
                let endpoint = config.endpoint.as_ref().map_or("aws", url::Url::as_str);
                let prefix = config.prefix.as_ref().map_or("", atcr_hold::storage::ObjectKey::as_str);
                format!("s3 {endpoint} {} {prefix}", config.bucket)
            }
        }
    }

    /// Opens the storage, that in the hold's own folder too.
    pub(crate) async fn open_any(self, data_dir: &Path) -> Result<Arc<dyn ObjectStorage>, Error> {
        if let Some(storage) = self.open().await? {
            return Ok(storage);
        }
        let storage = FilesystemStorage::open(data_dir.join("storage")).await;
        Ok(Arc::new(storage.map_err(Error::start("the storage"))?))
    }

    /// Opens the storage; `None` for the hold's own folder.
    pub(crate) async fn open(self) -> Result<Option<Arc<dyn ObjectStorage>>, Error> {
        match self {
            Self::Filesystem(None) => Ok(None),
            Self::Filesystem(Some(folder)) => {
                let storage = FilesystemStorage::open(folder).await.map_err(Error::start("the storage"))?;
                Ok(Some(Arc::new(storage)))
            }
            #[cfg(feature = "s3")]
            Self::S3(config) => {
                std::fs::create_dir_all(&config.spool_dir)
                    .map_err(Error::file(&config.spool_dir, "created"))?;
                Ok(Some(Arc::new(atcr_hold::storage::S3Storage::open(*config).await)))
            }
        }
    }
}

#[cfg(not(feature = "s3"))]
fn not_built(name: &str) -> ConfigError {
    ConfigError::Value {
        key: "storage.driver".to_owned(),
        value: name.to_owned(),
        reason: format!(
            "this program was built without it; build one with `cargo build --release -p atcr-bin --features {name}`"
        ),
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use std::path::Path;
    use std::time::Duration;

    use atcr_hold::storage::{self, ObjectKey, S3Config, S3Credentials};

    use crate::config::{Addressing, ConfigError, Layout, Storage};

    pub(super) fn settings(storage: Storage, data_dir: &Path) -> Result<S3Config, ConfigError> {
        let bucket = storage.bucket.ok_or(ConfigError::Required {
            key: "storage.bucket",
            purpose: "the bucket that the blobs go to",
            env: "S3_BUCKET",
        })?;
        let mut config = S3Config::new(bucket);
        config.prefix = storage.prefix.filter(|prefix| !prefix.is_empty()).map(prefix).transpose()?;
        config.region = storage.region;
        config.endpoint = storage.endpoint;
        config.addressing = match storage.addressing {
            Addressing::Automatic => storage::Addressing::Automatic,
            Addressing::Path => storage::Addressing::Path,
            Addressing::VirtualHost => storage::Addressing::VirtualHost,
        };
        config.credentials = match (storage.access_key, storage.secret_key) {
            (None, None) => S3Credentials::Chain,
            (Some(access_key_id), Some(secret)) => S3Credentials::Static {
                access_key_id,
                secret_access_key: secret.0,
                session_token: storage.session_token.map(|token| token.0),
            },
            (Some(_), None) => {
                return Err(ConfigError::Required {
                    key: "storage.secret_key",
                    purpose: "the secret of storage.access_key",
                    env: "AWS_SECRET_ACCESS_KEY",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Required {
                    key: "storage.access_key",
                    purpose: "the id of the access key whose secret storage.secret_key is",
                    env: "AWS_ACCESS_KEY_ID",
                });
            }
        };
        config.presign = storage.presign;
        config.pull_zone = storage.pull_zone;
        config.url_window = Duration::from_secs(storage.url_window_seconds);
        config.layout = match storage.layout {
            Layout::Uploaded => storage::Layout::Uploaded,
            Layout::Distribution => storage::Layout::Distribution,
        };
        config.part_size = storage.part_size;
        config.spool_dir = storage.spool_dir.unwrap_or_else(|| data_dir.join("spool"));
        Ok(config)
    }

    fn prefix(text: String) -> Result<ObjectKey, ConfigError> {
        let text = text.trim_matches('/').to_owned();
        ObjectKey::try_from(text).map_err(|error| ConfigError::Value {
            key: "storage.prefix".to_owned(),
            value: "what it is set to".to_owned(),
            reason: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Storage)) -> Result<StorageSettings, ConfigError> {
        let mut storage = Storage::default();
        change(&mut storage);
        StorageSettings::new(storage, Path::new("/var/lib/hold"))
    }

    #[test]
    fn without_a_bucket_blobs_are_files() {
        assert!(matches!(settings(|_| {}), Ok(StorageSettings::Filesystem(None))));
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_program_without_s3_says_how_to_get_one_with_it() {
        let error = settings(|storage| storage.bucket = Some("blobs".to_owned())).unwrap_err();
        assert!(error.to_string().contains("--features s3"), "{error}");
    }

    #[cfg(feature = "s3")]
    #[test]
    fn with_a_bucket_they_are_in_s3() {
        let Ok(StorageSettings::S3(config)) = settings(|storage| {
            storage.bucket = Some("blobs".to_owned());
            storage.prefix = Some("/holds/one/".to_owned());
        }) else {
            panic!("it is not S3")
        };
        assert_eq!(config.prefix.as_ref().map(ObjectKey::as_str), Some("holds/one"));
        assert_eq!(config.spool_dir, Path::new("/var/lib/hold/spool"));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn what_is_missing_is_named() {
        let error = settings(|storage| storage.driver = Some(StorageDriver::S3)).unwrap_err();
        assert!(error.to_string().contains("S3_BUCKET"), "{error}");
        let error = settings(|storage| {
            storage.bucket = Some("blobs".to_owned());
            storage.access_key = Some("id".to_owned());
        });
        assert!(error.unwrap_err().to_string().contains("storage.secret_key"));
    }

    #[cfg(feature = "s3")]
    use atcr_hold::storage::ObjectKey;
}
