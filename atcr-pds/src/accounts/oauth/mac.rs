use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

/// A message authentication code of this server's own. A key is filled up with zeros to the hash's block (RFC 2104).
pub(super) fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    Hmac::new(&block.into())
}
