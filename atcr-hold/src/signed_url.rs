//! Addresses that the hold signs itself, where the storage cannot: short-lived, and good for one thing.

use atcr_core::methods::UploadId;
use atcr_core::oci::Digest;
use atcr_core::syntax::Did;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use sha2::Sha256;
use url::Url;

use crate::storage::PartNumber;

/// How long an address is good, in seconds. The time counts when a request begins: a long transfer is not cut.
pub(crate) const LIFE: i64 = 15 * 60;

/// For how long a blob keeps one address, in seconds.
const BUCKET: i64 = 5 * 60;

/// The begin of the time in which a blob keeps one address.
fn bucket(now: i64) -> i64 {
    now.div_euclid(BUCKET).saturating_mul(BUCKET)
}

/// What an address is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grant<'a> {
    /// Sending one part of one upload.
    Part(&'a UploadId, PartNumber),
    /// Reading one blob.
    Blob(&'a Digest),
    /// Reading one blob as the account sees it that uploaded it.
    OwnBlob(&'a Digest, &'a Did),
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSignature {
    #[error("this address has expired; ask the hold for a new one")]
    Expired,
    #[error("the signature of this address is not the hold's: it was changed, or made for something else")]
    Wrong,
}

/// Signs addresses with a key that no one else has.
#[derive(Clone)]
pub(crate) struct UrlSigner {
    key: Hmac<Sha256>,
}

impl UrlSigner {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { key: Hmac::new_from_slice(key).expect("HMAC takes keys of every length") }
    }

    fn mac(&self, method: &Method, grant: Grant<'_>, expires: i64) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        // No field can hold a line break, so two different grants never read alike.
        let text = match grant {
            Grant::Part(upload, number) => {
                format!("atcr-hold 1\n{method}\npart\n{upload}\n{number}\n{expires}")
            }
            Grant::Blob(digest) => format!("atcr-hold 1\n{method}\nblob\n{digest}\n{expires}"),
            Grant::OwnBlob(digest, uploader) => {
                format!("atcr-hold 1\n{method}\nown blob\n{digest}\n{uploader}\n{expires}")
            }
        };
        mac.update(text.as_bytes());
        mac
    }

    /// Adds `expires` and `signature` to a URL.
    pub(crate) fn sign(&self, mut url: Url, method: &Method, grant: Grant<'_>, now: i64) -> Url {
        let expires = match grant {
            Grant::Part(..) => now.saturating_add(LIFE),
            // The same address for a while, so that caches between here and the readers know it again.
            Grant::Blob(_) | Grant::OwnBlob(..) => bucket(now).saturating_add(BUCKET + LIFE),
        };
        let signature = BASE64URL_NOPAD.encode(&self.mac(method, grant, expires).finalize().into_bytes());
        url.query_pairs_mut()
            .append_pair("expires", &expires.to_string())
            .append_pair("signature", &signature);
        url
    }

    /// Checks what came back, in constant time.
    pub(crate) fn check(
        &self,
        method: &Method,
        grant: Grant<'_>,
        expires: i64,
        signature: &str,
        now: i64,
    ) -> Result<(), BadSignature> {
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| BadSignature::Wrong)?;
        self.mac(method, grant, expires).verify_slice(&signature).map_err(|_| BadSignature::Wrong)?;
        if now <= expires { Ok(()) } else { Err(BadSignature::Expired) }
    }
}

impl std::fmt::Debug for UrlSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlSigner")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_opens_one_thing_for_a_while() {
        let signer = UrlSigner::new(&[7; 32]);
        let (upload, other): (UploadId, UploadId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let n = |n| PartNumber::new(n).unwrap();
        let grant = Grant::Part(&upload, n(1));
        let url = signer.sign("https://hold.example/x".parse().unwrap(), &Method::PUT, grant, 1000);
        let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let (expires, signature): (i64, String) = (value("expires").parse().unwrap(), value("signature"));
        let check = |method: &Method, grant, expires, signature: &str, now| {
            signer.check(method, grant, expires, signature, now)
        };
        let wrong = Err(BadSignature::Wrong);
        assert_eq!(expires, 1000 + 15 * 60);
        assert_eq!(check(&Method::PUT, grant, expires, &signature, 1000), Ok(()));
        assert_eq!(check(&Method::PUT, grant, expires, &signature, expires), Ok(()));
        assert_eq!(check(&Method::PUT, grant, expires, &signature, expires + 1), Err(BadSignature::Expired));
        assert_eq!(check(&Method::PUT, grant, expires + 1, &signature, 1000), wrong);
        assert_eq!(check(&Method::GET, grant, expires, &signature, 1000), wrong);
        assert_eq!(check(&Method::PUT, Grant::Part(&upload, n(2)), expires, &signature, 1000), wrong);
        assert_eq!(check(&Method::PUT, Grant::Part(&other, n(1)), expires, &signature, 1000), wrong);
        let digest = Digest::sha256(b"");
        let did: Did = "did:plc:alice".parse().unwrap();
        let blob = |now| {
            signer.sign("https://hold.example/x".parse().unwrap(), &Method::GET, Grant::Blob(&digest), now)
        };
        assert_eq!(blob(BUCKET), blob(2 * BUCKET - 1));
        assert_ne!(blob(BUCKET), blob(2 * BUCKET));
        assert!(blob(2 * BUCKET - 1).as_str().contains(&format!("expires={}", 2 * BUCKET + LIFE)));
        assert_eq!(check(&Method::PUT, Grant::OwnBlob(&digest, &did), expires, &signature, 1000), wrong);
        assert_eq!(check(&Method::PUT, Grant::Blob(&digest), expires, &signature, 1000), wrong);
        for bad in ["", "AAAA", &signature[1..], &format!("{signature}A")] {
            assert_eq!(check(&Method::PUT, grant, expires, bad, 1000), wrong, "{bad}");
        }
        let elsewhere = UrlSigner::new(&[8; 32]);
        assert_eq!(elsewhere.check(&Method::PUT, grant, expires, &signature, 1000), wrong);
    }
}
