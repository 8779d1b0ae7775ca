use std::path::Path;

use atcr_core::crypto::{Curve, SigningKey};

use super::durable::{self, Readers, file_error};
use crate::HoldError;

/// The hold's signing key. Made when there is none: 32 bytes, the scalar of a secp256k1 key.
pub(crate) fn signing_key(path: &Path) -> Result<SigningKey, HoldError> {
    match key(path)? {
        Some(key) => Ok(key),
        None => make(path, |key| key.to_bytes().to_vec()),
    }
}

/// A rotation key. Made when there is none, as text that can be kept in a safe place.
pub(crate) fn rotation_key(path: &Path) -> Result<SigningKey, HoldError> {
    match key(path)? {
        Some(key) => Ok(key),
        None => make(path, |key| format!("{}\n", key.to_multikey()).into_bytes()),
    }
}

/// The key in a file: 32 bytes or 64 hexadecimal digits (the scalar of a secp256k1 key), or a secret key as multibase
/// text (`z…`), of either curve. `None` when there is no file.
pub fn key(path: &Path) -> Result<Option<SigningKey>, HoldError> {
    let Some(bytes) = durable::read(path)? else { return Ok(None) };
    let damaged = |reason: String| HoldError::KeyFile { path: path.to_owned(), reason };
    if bytes.len() == 32 {
        let key = SigningKey::from_bytes(Curve::K256, &bytes);
        return key.map(Some).map_err(|error| damaged(error.to_string()));
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let key = if text.starts_with('z') {
        SigningKey::from_multikey(text)
    } else {
        let scalar = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let scalar = scalar.filter(|scalar| scalar.len() == 32).ok_or_else(|| {
            damaged(format!("its {} bytes are neither 32 bytes nor a key as text", bytes.len()))
        })?;
        SigningKey::from_bytes(Curve::K256, &scalar)
    };
    key.map(Some).map_err(|error| damaged(error.to_string()))
}

/// 32 random bytes that stay the same. Made when there are none.
pub(crate) fn secret(path: &Path) -> Result<[u8; 32], HoldError> {
    if durable::read(path)?.is_none() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| HoldError::Random)?;
        durable::create(path, &bytes, Readers::Owner)?;
    }
    let bytes = durable::read(path)?.unwrap_or_default();
    let length = bytes.len();
    bytes.try_into().map_err(|_| HoldError::KeyFile {
        path: path.to_owned(),
        reason: format!("it has {length} bytes, not 32"),
    })
}

/// Writes a new key. One that somebody else has made meanwhile is the one.
fn make(path: &Path, encode: impl FnOnce(&SigningKey) -> Vec<u8>) -> Result<SigningKey, HoldError> {
    let new = SigningKey::generate(Curve::K256)?;
    durable::create(path, &encode(&new), Readers::Owner)?;
    key(path)?.ok_or_else(|| file_error(path)(std::io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        for make in [signing_key, rotation_key] {
            let path = directory.path().join("a.key");
            let made = make(&path).unwrap();
            assert_eq!(make(&path).unwrap().to_bytes(), made.to_bytes());
            assert_eq!(key(&path).unwrap().unwrap().to_bytes(), made.to_bytes());
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        for damaged in [&b"short"[..], &[0; 32], b"", b"zzzz", &[b'0'; 64], b"did:key:z6Mk"] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(signing_key(&path), Err(HoldError::KeyFile { .. })));
            assert!(matches!(rotation_key(&path), Err(HoldError::KeyFile { .. })));
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        fs::write(&path, b"short").unwrap();
        assert!(matches!(secret(&path), Err(HoldError::KeyFile { .. })));
    }

    #[test]
    fn a_key_is_read_in_each_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rotation.key");
        for curve in [Curve::K256, Curve::P256] {
            let expected = SigningKey::generate(curve).unwrap();
            fs::write(&path, format!("{}\n", expected.to_multikey())).unwrap();
            let read = key(&path).unwrap().unwrap();
            assert_eq!((read.curve(), read.to_bytes()), (curve, expected.to_bytes()));
        }
        let expected = SigningKey::generate(Curve::K256).unwrap();
        fs::write(&path, data_encoding::HEXUPPER.encode(&expected.to_bytes())).unwrap();
        assert_eq!(key(&path).unwrap().unwrap().to_bytes(), expected.to_bytes());
    }
}
