use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use atcr_core::crypto::{Curve, SigningKey};

use crate::HoldError;

/// The hold's signing key: 32 bytes, the scalar of a secp256k1 key. Made when there is none.
pub(crate) fn signing_key(path: &Path) -> Result<SigningKey, HoldError> {
    let bytes = match read(path)? {
        Some(bytes) => bytes,
        None => create(path, &SigningKey::generate(Curve::K256)?.to_bytes())?,
    };
    SigningKey::from_bytes(Curve::K256, &bytes)
        .map_err(|error| HoldError::KeyFile { path: path.to_owned(), reason: error.to_string() })
}

/// 32 random bytes that stay the same. Made when there are none.
pub(crate) fn secret(path: &Path) -> Result<[u8; 32], HoldError> {
    if let Some(bytes) = read(path)? {
        return Ok(bytes);
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| HoldError::Random)?;
    create(path, &bytes)
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> HoldError + use<'_> {
    |source| HoldError::File { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, HoldError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path)(error)),
    };
    let length = bytes.len();
    let bytes = bytes.try_into().map_err(|_| HoldError::KeyFile {
        path: path.to_owned(),
        reason: format!("it has {length} bytes, not 32"),
    })?;
    Ok(Some(bytes))
}

/// Writes the key whole or not at all, readable by the owner only, and never over one that another process has made
/// meanwhile, which is then the one.
fn create(path: &Path, bytes: &[u8; 32]) -> Result<[u8; 32], HoldError> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(file_error(path))?;
    read(path)?.ok_or_else(|| file_error(path)(ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        let key = signing_key(&path).unwrap();
        assert_eq!(signing_key(&path).unwrap().to_bytes(), key.to_bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        fs::write(&path, b"short").unwrap();
        assert!(matches!(signing_key(&path), Err(HoldError::KeyFile { .. })));
        fs::write(&path, [0; 32]).unwrap();
        assert!(matches!(signing_key(&path), Err(HoldError::KeyFile { .. })));
        assert_eq!(fs::read(&path).unwrap(), [0; 32]);
    }
}
