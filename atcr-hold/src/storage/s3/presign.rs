use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use http::{HeaderMap, HeaderName, HeaderValue};
use moka::future::Cache;
use url::Url;

use super::super::{ObjectKey, PartNumber, SignedRequest, StorageError, StorageUpload};
use super::S3Storage;
use super::error::S3Failure;
use crate::storage::bucket::UploadName;

/// S3 knows no longer life of a signed URL.
const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Signed URLs that are remembered at most.
const MOST_SIGNED: u64 = 20_000;
/// For how long. Credentials that are renewed must not be outlived by much.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A URL as it stays for its window.
#[derive(Debug)]
pub(super) struct SignedGet {
    window: (u64, u64),
    life: Duration,
    url: Url,
}

/// The memory of signed URLs: a signature costs more than all else of an answer that sends a reader here.
pub(super) fn memory() -> Cache<ObjectKey, Arc<SignedGet>> {
    Cache::builder().max_capacity(MOST_SIGNED).time_to_live(REMEMBERED).build()
}

impl S3Storage {
    pub(super) async fn sign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        life: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let (name, id) = UploadName::of_upload(upload)?;
        let number = super::part_number(number)?;
        let request = self.inner.client.upload_part().bucket(self.bucket()).key(self.full(&name.data()));
        let signed =
            request.upload_id(id).part_number(number).presigned(self.validity(life, Duration::ZERO)?);
        let signed = signed.await.map_err(|error| S3Failure::from(error).doing("signing a URL"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in signed.headers() {
            let name = HeaderName::try_from(name).map_err(|error| unusable(error.into()))?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| unusable(error.into()))?);
        }
        let method = signed.method().parse().map_err(|_| unusable("no method".into()))?;
        Ok(SignedRequest { method, url: url(&signed)?, headers, etag: None })
    }

    pub(super) async fn sign_get(&self, key: &ObjectKey, life: Duration) -> Result<Url, StorageError> {
        let window = self.window(self.inner.config.url_window);
        let signed = self.inner.signed.get(key).await;
        if let Some(known) = signed.filter(|known| known.window == window && known.life == life) {
            return Ok(known.url.clone());
        }
        let url = self.sign_anew(key, life).await?;
        let signed = SignedGet { window, life, url: url.clone() };
        self.inner.signed.insert(key.clone(), Arc::new(signed)).await;
        Ok(url)
    }

    async fn sign_anew(&self, key: &ObjectKey, life: Duration) -> Result<Url, StorageError> {
        let request = self.inner.client.get_object().bucket(self.bucket()).key(self.full(key));
        let signed = request.presigned(self.validity(life, self.inner.config.url_window)?).await;
        let signed = signed.map_err(|error| S3Failure::from(error).doing("signing a URL"))?;
        let mut url = url(&signed)?;
        if let Some(zone) = &self.inner.config.pull_zone {
            let path = format!("{}{}", zone.path().trim_end_matches('/'), url.path());
            let mut address = zone.clone();
            address.set_path(&path);
            address.set_query(url.query());
            url = address;
        }
        Ok(url)
    }

    /// When the present window began, and its length, in seconds.
    fn window(&self, window: Duration) -> (u64, u64) {
        let now = self.inner.config.clock.unix().unsigned_abs();
        let window = window.min(MAX_LIFE / 2).as_secs();
        (now.checked_rem(window).map_or(now, |into| now - into), window)
    }

    /// From the beginning of the present window on, for `life` after its end.
    fn validity(&self, life: Duration, window: Duration) -> Result<PresigningConfig, StorageError> {
        let (start, window) = self.window(window);
        PresigningConfig::builder()
            .start_time(SystemTime::UNIX_EPOCH + Duration::from_secs(start))
            .expires_in((life + Duration::from_secs(window)).min(MAX_LIFE))
            .build()
            .map_err(|error| unusable(error.into()))
    }
}

fn url(signed: &PresignedRequest) -> Result<Url, StorageError> {
    signed.uri().parse().map_err(|error: url::ParseError| unusable(error.into()))
}

fn unusable(source: atcr_core::Source) -> StorageError {
    StorageError::Failed { doing: "signing a URL".into(), source }
}
