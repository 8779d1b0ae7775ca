use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};

use super::super::StorageError;
use super::super::bucket::UploadName;
use super::S3Storage;
use super::error::S3Failure;

const SIGNED: &[u8] = b"the bytes that were signed";
const SENT: &[u8] = b"the bytes that were put in";

/// Exchanges the body once the request is signed.
#[derive(Debug)]
struct Exchange;

impl Intercept for Exchange {
    fn name(&self) -> &'static str {
        "Exchange"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = SdkBody::from(SENT);
        Ok(())
    }
}

impl S3Storage {
    /// Puts an object whose bytes are not those of the signed hash, and says whether it was refused.
    pub(super) async fn send_other_payload(&self) -> Result<bool, StorageError> {
        let key = UploadName::random()?.data();
        let request = self.inner.client.put_object().bucket(self.bucket()).key(self.full(&key));
        let request = request.body(ByteStream::from_static(SIGNED));
        let sent = request.customize().interceptor(Exchange).send().await;
        // What was refused may have been kept all the same.
        self.remove_object(&key).await?;
        match sent.map_err(S3Failure::from) {
            Ok(_) => Ok(false),
            Err(S3Failure::Refused { status: 400..=499, .. }) => Ok(true),
            Err(failure) => Err(failure.doing("sending another body than was signed")),
        }
    }
}
