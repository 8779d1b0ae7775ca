//! Signed URLs: AWS Signature Version 4 in the query.
//!
//! The SDK's own way to one takes a request through its whole machinery, and eight times the CPU time. So it is asked once,
//! where the bucket is and what signatures are bound to.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{Credentials, ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::super::{ObjectKey, PartNumber, SignedRequest, StorageError, StorageUpload};
use super::S3Storage;
use super::error::S3Failure;
use crate::storage::bucket::UploadName;

/// S3 knows no longer life of a signed URL.
const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Credentials that end sooner are renewed: no URL outlives what it is signed with.
const SOON: Duration = Duration::from_secs(5 * 60);

/// What signatures leave as it is in a query.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What it takes to sign.
#[derive(Debug)]
pub(super) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    credentials: Mutex<Option<Credentials>>,
    scope: OnceCell<Scope>,
}

/// What signatures are bound to.
#[derive(Debug)]
struct Scope {
    /// The address of the bucket, with a slash at its end.
    bucket: String,
    region: String,
}

impl Signer {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>) -> Self {
        Self { provider, credentials: Mutex::default(), scope: OnceCell::new() }
    }

    async fn credentials(&self) -> Result<Credentials, StorageError> {
        let mut known = self.credentials.lock().await;
        let soon = SystemTime::now() + SOON;
        if let Some(known) = known.as_ref().filter(|known| known.expiry().is_none_or(|end| end > soon)) {
            return Ok(known.clone());
        }
        let provider = self.provider.as_ref().ok_or_else(|| unusable("there are no credentials"))?;
        let fresh = provider.provide_credentials().await.map_err(unusable)?;
        Ok(known.insert(fresh).clone())
    }
}

impl S3Storage {
    pub(super) async fn sign_part(
        &self,
        upload: &StorageUpload,
        number: PartNumber,
        life: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let (name, id) = UploadName::of_upload(upload)?;
        let id = utf8_percent_encode(id, IN_QUERY);
        let query = format!("?partNumber={}&uploadId={id}", super::part_number(number)?);
        let key = self.full(&name.data());
        let url = self.sign(&Method::PUT, &key, &query, life, Duration::ZERO).await?;
        Ok(SignedRequest { method: Method::PUT, url, headers: HeaderMap::new(), etag: None })
    }

    pub(super) async fn sign_get(&self, key: &ObjectKey, life: Duration) -> Result<Url, StorageError> {
        let window = self.inner.config.url_window;
        let url = self.sign(&Method::GET, &self.full(key), "", life, window).await?;
        let Some(zone) = &self.inner.config.pull_zone else { return Ok(url) };
        let mut address = zone.clone();
        address.set_path(&format!("{}{}", zone.path().trim_end_matches('/'), url.path()));
        address.set_query(url.query());
        Ok(address)
    }

    /// Signs from the beginning of the present window on, for `life` after its end.
    async fn sign(
        &self,
        method: &Method,
        key: &str,
        query: &str,
        life: Duration,
        window: Duration,
    ) -> Result<Url, StorageError> {
        let signer = &self.inner.signer;
        let scope = signer.scope.get_or_try_init(|| self.scope()).await?;
        let window = window.min(MAX_LIFE / 2).as_secs();
        let now = self.inner.config.clock.unix().unsigned_abs();
        let start = now.checked_rem(window).map_or(now, |into| now - into);
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some((life + Duration::from_secs(window)).min(MAX_LIFE));
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = signer.credentials().await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&scope.region)
            .name("s3")
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(start))
            .settings(settings)
            .build()
            .map_err(unusable)?
            .into();
        // The characters of a key are those that stay as they are.
        let mut address = format!("{}{key}{query}", scope.bucket);
        let nothing = std::iter::empty();
        let request = SignableRequest::new(method.as_str(), &address, nothing, SignableBody::UnsignedPayload);
        let (signature, _) = sign(request.map_err(unusable)?, &parameters).map_err(unusable)?.into_parts();
        let mut separator = if query.is_empty() { '?' } else { '&' };
        for (name, value) in signature.params() {
            let _ = write!(address, "{separator}{name}={}", utf8_percent_encode(value, IN_QUERY));
            separator = '&';
        }
        address.parse().map_err(|error: url::ParseError| unusable(error))
    }

    /// Reads it off a URL that the SDK signs, which knows endpoints, regions and the forms of addresses.
    async fn scope(&self) -> Result<Scope, StorageError> {
        const KEY: &str = "-";
        let validity = PresigningConfig::expires_in(MAX_LIFE).map_err(unusable)?;
        let request = self.inner.client.get_object().bucket(self.bucket()).key(KEY);
        let signed = request.presigned(validity).await;
        let signed = signed.map_err(|error| S3Failure::from(error).doing("signing a URL"))?;
        let url: Url = signed.uri().parse().map_err(|error: url::ParseError| unusable(error))?;
        let credential =
            url.query_pairs().find(|(name, _)| name == "X-Amz-Credential").map(|(_, value)| value);
        let bucket = signed.uri().split('?').next().and_then(|address| address.strip_suffix(KEY));
        // Access key, day, region, service, what it ends with; some other service has signatures of another kind.
        let mut scope = credential.as_deref().unwrap_or_default().rsplit('/');
        match (scope.next(), scope.next(), scope.next(), bucket) {
            (Some("aws4_request"), Some("s3"), Some(region), Some(bucket)) => {
                Ok(Scope { bucket: bucket.to_owned(), region: region.to_owned() })
            }
            _ => Err(unusable(
                "the bucket is of a kind that has other signatures; set storage.presign to false",
            )),
        }
    }
}

fn unusable(source: impl Into<atcr_core::Source>) -> StorageError {
    StorageError::Failed { doing: "signing a URL".into(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// Gives credentials that end after so many seconds, each with a number.
    #[derive(Debug)]
    struct Ending {
        after: Arc<AtomicU64>,
        given: AtomicU64,
    }

    impl aws_sdk_s3::config::ProvideCredentials for Ending {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let end = SystemTime::now() + Duration::from_secs(self.after.load(Ordering::Relaxed));
            let id = self.given.fetch_add(1, Ordering::Relaxed).to_string();
            future::ProvideCredentials::ready(Ok(Credentials::new(id, "secret", None, Some(end), "test")))
        }
    }

    #[tokio::test]
    async fn credentials_are_asked_for_again_before_they_end() {
        let after = Arc::new(AtomicU64::new(200));
        let provider = Ending { after: after.clone(), given: AtomicU64::new(0) };
        let signer = Signer::new(Some(SharedCredentialsProvider::new(provider)));
        let id = async || signer.credentials().await.unwrap().access_key_id().to_owned();
        assert_eq!(id().await, "0");
        after.store(3600, Ordering::Relaxed);
        assert_eq!(id().await, "1", "the first end too soon");
        assert_eq!(id().await, "1");
        let error = Signer::new(None).credentials().await.unwrap_err();
        assert!(error.to_string().contains("there are no credentials"), "{error}");
    }
}
