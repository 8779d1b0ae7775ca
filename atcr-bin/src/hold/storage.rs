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
    /// In Azure Blob Storage.
    #[cfg(feature = "azure")]
    Azure(Box<atcr_hold::storage::AzureConfig>),
}

impl StorageSettings {
    /// The settings of a configuration; `data_dir` is the hold's own folder.
    #[cfg_attr(
        not(any(feature = "s3", feature = "azure")),
        expect(unused_variables, reason = "no bucket, no spool")
    )]
    pub(crate) fn new(storage: Storage, data_dir: &Path) -> Result<Self, ConfigError> {
        let driver = storage.driver.unwrap_or(match &storage.bucket {
            Some(_) => StorageDriver::S3,
            None => StorageDriver::Filesystem,
        });
        match driver {
            StorageDriver::Filesystem => Ok(Self::Filesystem(storage.root_dir)),
            #[cfg(feature = "s3")]
            StorageDriver::S3 => s3::settings(storage, data_dir).map(|config| Self::S3(Box::new(config))),
            #[cfg(feature = "gcs")]
            StorageDriver::Gcs => s3::of_google(storage, data_dir).map(|config| Self::S3(Box::new(config))),
            #[cfg(feature = "azure")]
            StorageDriver::Azure => {
                azure::settings(storage, data_dir).map(|config| Self::Azure(Box::new(config)))
            }
            #[cfg(not(feature = "s3"))]
            StorageDriver::S3 => Err(not_built("s3")),
            #[cfg(not(feature = "gcs"))]
            StorageDriver::Gcs => Err(not_built("gcs")),
            #[cfg(not(feature = "azure"))]
            StorageDriver::Azure => Err(not_built("azure")),
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
            #[cfg(feature = "azure")]
            Self::Azure(config) => {
                let endpoint = config.endpoint.as_ref().map_or("azure", url::Url::as_str);
                let prefix = config.prefix.as_ref().map_or("", atcr_hold::storage::ObjectKey::as_str);
                format!("azure {endpoint} {} {} {prefix}", config.account, config.container)
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
                spool(&config.spool_dir)?;
                Ok(Some(Arc::new(atcr_hold::storage::S3Storage::open(*config).await)))
            }
            #[cfg(feature = "azure")]
            Self::Azure(config) => {
                spool(&config.spool_dir)?;
                let storage = atcr_hold::storage::AzureStorage::open(*config).await;
                Ok(Some(Arc::new(storage.map_err(Error::start("the storage"))?)))
            }
        }
    }
}

#[cfg(any(feature = "s3", feature = "azure"))]
fn spool(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "created"))
}

#[cfg(not(all(feature = "s3", feature = "azure", feature = "gcs")))]
fn not_built(name: &str) -> ConfigError {
    ConfigError::Value {
        key: "storage.driver".to_owned(),
        value: name.to_owned(),
        reason: format!(
            "this program was built without it; build one with `cargo build --release -p atcr-bin --features {name}`"
        ),
    }
}

#[cfg(any(feature = "s3", feature = "azure"))]
mod bucket {
    use atcr_hold::storage::{self, ObjectKey};

    use crate::config::{ConfigError, Layout};

    /// The required setting `key`.
    pub(super) fn required<T>(
        value: Option<T>,
        key: &'static str,
        purpose: &'static str,
        env: &'static str,
    ) -> Result<T, ConfigError> {
        value.ok_or(ConfigError::Required { key, purpose, env })
    }

    pub(super) fn prefix(text: Option<String>) -> Result<Option<ObjectKey>, ConfigError> {
        let text = text.filter(|text| !text.is_empty());
        let key = text.map(|text| ObjectKey::try_from(text.trim_matches('/').to_owned()));
        key.transpose().map_err(|error| ConfigError::Value {
            key: "storage.prefix".to_owned(),
            value: "what it is set to".to_owned(),
            reason: error.to_string(),
        })
    }

    pub(super) fn layout(layout: Layout) -> storage::Layout {
        match layout {
            Layout::Uploaded => storage::Layout::Uploaded,
            Layout::Distribution => storage::Layout::Distribution,
        }
    }
}

#[cfg(feature = "azure")]
mod azure {
    use std::path::Path;
    use std::time::Duration;

    use atcr_hold::storage::{AzureAccountKey, AzureConfig};

    use super::bucket::{layout, prefix, required};
    use crate::config::{ConfigError, Storage};

    pub(super) fn settings(storage: Storage, data_dir: &Path) -> Result<AzureConfig, ConfigError> {
        let container =
            required(storage.bucket, "storage.bucket", "the container that the blobs go to", "S3_BUCKET")?;
        let account = required(
            storage.account,
            "storage.account",
            "the storage account that the container is in",
            "AZURE_STORAGE_ACCOUNT",
        )?;
        let key = required(
            storage.account_key,
            "storage.account_key",
            "one of the keys of storage.account",
            "AZURE_STORAGE_KEY",
        )?;
        let key = AzureAccountKey::from_base64(&key.0).map_err(|error| ConfigError::Value {
            key: "storage.account_key".to_owned(),
            value: "what it is set to".to_owned(),
            reason: error.to_string(),
        })?;
        let mut config = AzureConfig::new(account, key, container);
        config.prefix = prefix(storage.prefix)?;
        config.endpoint = storage.endpoint;
        config.presign = storage.presign;
        config.pull_zone = storage.pull_zone;
        config.url_window = Duration::from_secs(storage.url_window_seconds);
        config.layout = layout(storage.layout);
        config.part_size = storage.part_size;
        config.spool_dir = storage.spool_dir.unwrap_or_else(|| data_dir.join("spool"));
        Ok(config)
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use std::path::Path;
    use std::time::Duration;

    use atcr_hold::storage::{self, S3Config, S3Credentials};

    use super::bucket::{layout, prefix, required};
    use crate::config::{Addressing, ConfigError, Storage};

    pub(super) fn settings(storage: Storage, data_dir: &Path) -> Result<S3Config, ConfigError> {
        let mut config = S3Config::new(bucket(&storage)?);
        config.addressing = match storage.addressing {
            Addressing::Automatic => storage::Addressing::Automatic,
            Addressing::Path => storage::Addressing::Path,
            Addressing::VirtualHost => storage::Addressing::VirtualHost,
        };
        let token = storage.session_token.clone().map(|token| token.0);
        config.credentials = match (&storage.access_key, &storage.secret_key) {
            (None, None) => S3Credentials::Chain,
            _ => access_key(&storage, token)?,
        };
        common(config, storage, data_dir)
    }

    /// Google's, which has its own credentials and its own root.
    #[cfg(feature = "gcs")]
    pub(super) fn of_google(storage: Storage, data_dir: &Path) -> Result<S3Config, ConfigError> {
        let config = S3Config::google(bucket(&storage)?, access_key(&storage, None)?);
        common(config, storage, data_dir)
    }

    fn bucket(storage: &Storage) -> Result<String, ConfigError> {
        let bucket = storage.bucket.clone();
        required(bucket, "storage.bucket", "the bucket that the blobs go to", "S3_BUCKET")
    }

    fn common(mut config: S3Config, storage: Storage, data_dir: &Path) -> Result<S3Config, ConfigError> {
        config.prefix = prefix(storage.prefix)?;
        config.region = storage.region.or(config.region);
        config.endpoint = storage.endpoint.or(config.endpoint);
        config.presign = storage.presign;
        config.pull_zone = storage.pull_zone;
        config.url_window = Duration::from_secs(storage.url_window_seconds);
        config.layout = layout(storage.layout);
        config.part_size = storage.part_size;
        config.spool_dir = storage.spool_dir.unwrap_or_else(|| data_dir.join("spool"));
        Ok(config)
    }

    fn access_key(storage: &Storage, session_token: Option<String>) -> Result<S3Credentials, ConfigError> {
        let id = required(
            storage.access_key.clone(),
            "storage.access_key",
            "the id of the access key whose secret storage.secret_key is",
            "AWS_ACCESS_KEY_ID",
        )?;
        let secret = required(
            storage.secret_key.clone(),
            "storage.secret_key",
            "the secret of storage.access_key",
            "AWS_SECRET_ACCESS_KEY",
        )?;
        Ok(S3Credentials::Static { access_key_id: id, secret_access_key: secret.0, session_token })
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

    #[cfg(feature = "gcs")]
    #[test]
    fn google_has_a_root_of_its_own_and_no_chain_of_credentials() {
        let google = |storage: &mut Storage| {
            storage.driver = Some(StorageDriver::Gcs);
            storage.bucket = Some("blobs".to_owned());
        };
        assert!(settings(google).unwrap_err().to_string().contains("storage.access_key"));
        let Ok(StorageSettings::S3(config)) = settings(|storage| {
            google(storage);
            storage.access_key = Some("GOOG1E".to_owned());
            storage.secret_key = Some(crate::config::Secret("secret".to_owned()));
        }) else {
            panic!("it does not speak S3")
        };
        assert_eq!(config.endpoint.unwrap().as_str(), "https://storage.googleapis.com/");
    }

    #[cfg(feature = "azure")]
    #[test]
    fn azure_wants_an_account_with_its_key() {
        let azure = |key: Option<&str>| {
            settings(|storage| {
                storage.driver = Some(StorageDriver::Azure);
                storage.bucket = Some("blobs".to_owned());
                storage.account = Some("account".to_owned());
                storage.account_key = key.map(|key| crate::config::Secret(key.to_owned()));
            })
        };
        assert!(azure(None).unwrap_err().to_string().contains("AZURE_STORAGE_KEY"));
        let error = azure(Some("not base64!")).unwrap_err().to_string();
        assert!(error.contains("storage.account_key") && !error.contains("not base64!"), "{error}");
        assert!(matches!(azure(Some("a2V5")), Ok(StorageSettings::Azure(_))));
    }

    #[cfg(feature = "s3")]
    use atcr_hold::storage::ObjectKey;
}
